import itertools

import pytest
import torch

from sharpseq.models import Cmlm, CmlmConfig, Ctc, CtcConfig, VanillaNat, VanillaNatConfig
from sharpseq.models.cmlm import random_mask
from sharpseq.models.length_prediction import MAX_DIFFERENCE
from sharpseq.models.transformer import sinusoidal_positions
from sharpseq.models.uniform_copy import uniform_copy

SIZES = {
    "vocab_size": 12,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
}
SOURCE = torch.tensor([[5, 6, 7, 0], [8, 0, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def test_uniform_copy_spreads_sources_evenly_and_ignores_padding() -> None:
    states = torch.arange(8.0).view(2, 4, 1)
    copied = uniform_copy(states, torch.tensor([4, 2]), torch.tensor([8, 3]))
    assert copied[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert copied[1, :3, 0].tolist() == [4, 5, 5]
    for source, target in itertools.product(range(1, 9), range(1, 12)):
        positions = uniform_copy(torch.arange(8.0).view(1, 8, 1), torch.tensor([source]), torch.tensor([target]))
        values = positions.flatten().tolist()
        assert values == sorted(values)
        assert max(values) < source
        counts = [values.count(v) for v in range(source)]
        assert max(counts) - min(counts) <= 1


def test_length_predictor_trains_on_the_difference_and_offers_only_possible_lengths() -> None:
    model = VanillaNat(VanillaNatConfig(**SIZES, max_target_positions=9)).eval()
    encoded = model.encode(SOURCE, MASK)
    lengths, log_probs = model.predict_length_log_probs(encoded)
    assert lengths.shape == (2, 2 * MAX_DIFFERENCE + 1)
    offered = log_probs.isfinite()
    assert lengths[offered].min() == 1
    assert lengths[offered].max() == 9
    # Source lengths are 4 and 2 with EOS; targets of 6 and 1 are classes +2 and −1.
    loss = model.length_predictor.loss(encoded, torch.tensor([6, 1]))
    expected = model.length_predictor(encoded)
    torch.testing.assert_close(loss, -torch.stack([expected[0, MAX_DIFFERENCE + 2], expected[1, MAX_DIFFERENCE - 1]]))


def test_vanilla_nat_scores_are_those_of_its_own_parallel_decoding() -> None:
    torch.manual_seed(0)
    model = VanillaNat(VanillaNatConfig(**SIZES)).eval()
    labels = torch.tensor([[7, 8, 9], [10, -100, -100]])
    log_probs = model.decode_parallel(model.encode(SOURCE, MASK), torch.tensor([3, 1])).log_softmax(-1)
    expected = torch.stack([log_probs[0, [0, 1, 2], [7, 8, 9]].sum(), log_probs[1, 0, 10]])
    torch.testing.assert_close(model(SOURCE, MASK, labels).log_prob, expected)


def test_random_mask_draws_every_count_from_one_to_the_length_equally_often() -> None:
    scored = torch.ones(6000, 4, dtype=torch.bool)
    scored[:, 3] = False
    masked = random_mask(scored, generator=torch.Generator().manual_seed(0))
    assert not masked[:, 3].any()
    counts = torch.bincount(masked.sum(1), minlength=4)
    assert counts[0] == 0
    assert (counts[1:] / 6000 - 1 / 3).abs().max() < 0.03
    by_position = masked[masked.sum(1) == 1].float().mean(0)[:3]
    assert (by_position - 1 / 3).abs().max() < 0.04


def test_cmlm_masks_everything_outside_training_and_scores_masked_tokens_only_in_training() -> None:
    torch.manual_seed(0)
    model = Cmlm(CmlmConfig(**SIZES, dropout=0.0)).eval()
    labels = torch.tensor([[7, 8, 9], [10, -100, -100]])
    log_probs = model.decode_parallel(model.encode(SOURCE, MASK), torch.tensor([3, 1])).log_softmax(-1)
    expected = torch.stack([log_probs[0, [0, 1, 2], [7, 8, 9]].sum(), log_probs[1, 0, 10]])
    scores = model(SOURCE, MASK, labels)
    torch.testing.assert_close(scores.log_prob, expected)
    assert scores.num_tokens.tolist() == [3, 1]

    model.train()
    counts = {int(model(SOURCE, MASK, labels).num_tokens[0]) for _ in range(40)}
    assert counts == {1, 2, 3}


def test_cmlm_reads_the_tokens_it_is_given() -> None:
    torch.manual_seed(0)
    model = Cmlm(CmlmConfig(**SIZES)).eval()
    encoded = model.encode(SOURCE, MASK)
    lengths = torch.tensor([3, 1])
    masked = model.decode_parallel(encoded, lengths)
    given = model.decode_parallel(encoded, lengths, decoder_input_ids=torch.tensor([[7, 4, 9], [4, 1, 1]]))
    assert not torch.allclose(masked[0, 1], given[0, 1])
    torch.testing.assert_close(masked[1, 0], given[1, 0])


def test_cmlm_without_mask_token_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_token_id"):
        CmlmConfig(**SIZES, mask_token_id=None)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_ctc_has_the_factor_times_as_many_frames(factor: int) -> None:
    model = Ctc(CtcConfig(**SIZES, upsampling_factor=factor)).eval()
    logits, mask = model.decode_frames(model.encode(SOURCE, MASK))
    assert logits.shape == (2, 4 * factor, 12)
    assert mask.sum(1).tolist() == [4 * factor, 2 * factor]
    assert model.config.blank_token_id == model.config.pad_token_id


def test_ctc_runs_its_encoder_at_source_length_only() -> None:
    """Upsampling late is what makes a deep model cheap: no encoder layer may see the upsampled length."""
    model = Ctc(CtcConfig(**{**SIZES, "encoder_layers": 3})).eval()
    seen = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    model.decode_frames(model.encode(SOURCE, MASK))
    assert seen == [4, 4, 4]


def test_generate_picks_the_decoder_of_the_family() -> None:
    torch.manual_seed(0)
    for model in (
        VanillaNat(VanillaNatConfig(**SIZES)),
        Cmlm(CmlmConfig(**SIZES)),
        Ctc(CtcConfig(**SIZES)),
    ):
        ids = model.generate(SOURCE)
        assert ids.shape[0] == 2
        output = model.decode(SOURCE, MASK)
        assert torch.equal(output.sequences, ids)
        assert output.num_passes == 1
        with pytest.raises(ValueError, match="must be one of"):
            model.generate(SOURCE, decoder="beam")


def test_positions_follow_the_formula() -> None:
    positions = sinusoidal_positions(3, 4, like=torch.zeros(1, dtype=torch.float64))
    expected = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(positions[:, 0], expected.sin().double())
    torch.testing.assert_close(positions[:, 2], expected.cos().double())
    torch.testing.assert_close(positions[:, 1], (expected / 10_000).sin().double())
