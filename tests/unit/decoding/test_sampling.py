"""Samples of every kind of model: they follow the model's distribution, with its exact probability, in any batch."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from sharpseq.decoding.autoregressive_sampling import sample_autoregressive
from sharpseq.decoding.one_pass_sampling import SampledOutputs, sample_ctc, sample_parallel, token_lists
from sharpseq.decoding.random_choice import choose_at_random, uniform_numbers
from sharpseq.models import MODELS
from sharpseq.scoring import IGNORED, length_mask, score_ctc, score_model

SIZES = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 1, "ffn_dim": 8, "dropout": 0.3}
SPECIAL = {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None, "mask_token_id": None}
SOURCE = torch.tensor([[2, 3, 0]])


def model(family: str, **sizes: int) -> torch.nn.Module:
    torch.manual_seed(3)
    spec = MODELS[family]
    made = spec.model(spec.config(vocab_size=4, **SIZES, **SPECIAL, **sizes)).double()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return made


def batch(ids: torch.Tensor = SOURCE) -> dict[str, torch.Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def distance(samples: SampledOutputs, expected: dict[tuple[int, ...], float]) -> float:
    """Total variation between the samples and a distribution."""
    counts = Counter(map(tuple, token_lists(samples)))
    total = sum(counts.values())
    assert counts.keys() <= expected.keys()
    return sum(abs(counts[outcome] / total - share) for outcome, share in expected.items()) / 2


def test_numbers_of_an_example_do_not_depend_on_the_batch() -> None:
    wide = uniform_numbers([4, 9], num_samples=3, width=40, seed="s")
    for width in (1, 15, 16, 17):
        assert uniform_numbers([9], num_samples=2, width=width, seed="s").equal(wide[3:5, :width])
    assert not uniform_numbers([4], num_samples=1, width=4, seed="t").equal(wide[:1, :4])
    assert 0 <= wide.min() < 0.05 < 0.95 < wide.max() < 1


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    numbers = torch.tensor([[0.0, 1 - 2**-53, 0.2, 0.5]], dtype=torch.float64)
    assert choose_at_random(logits, numbers).tolist() == [[1, 3, 1, 3]]
    with pytest.raises(ValueError, match="`temperature` must be greater than 0"):
        choose_at_random(logits, numbers, temperature=0.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_ctc_samples_have_the_probability_of_all_their_alignments(temperature: float) -> None:
    ctc = model("ctc", upsampling_factor=1).train()
    uniforms = uniform_numbers(range(200), num_samples=50, width=3, seed="a")
    samples = sample_ctc(ctc, batch(SOURCE.expand(200, -1)), uniforms, temperature=temperature)
    assert ctc.training
    with torch.no_grad():
        logits, _ = ctc.eval().decode_frames(ctc.encode(SOURCE, torch.ones_like(SOURCE)))
    probs = (logits[0] / temperature).softmax(-1)
    expected: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=3):
        outcome = tuple(token for token, _ in itertools.groupby(path) if token != 1)
        chance = float(torch.stack([probs[frame, token] for frame, token in enumerate(path)]).prod())
        expected[outcome] = expected.get(outcome, 0.0) + chance
    assert distance(samples, expected) < 0.03
    for tokens, log_prob in list(zip(token_lists(samples), samples.log_prob.tolist(), strict=True))[:50]:
        assert log_prob == pytest.approx(torch.tensor(expected[tuple(tokens)]).log().item(), abs=1e-6)


def test_several_targets_of_one_row_of_frames_are_scored_as_each_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    labels = torch.tensor([[2, 2, 3], [4, IGNORED, IGNORED], [5, 3, IGNORED], [IGNORED] * 3])
    together = score_ctc(logits, mask, labels, blank=0)
    alone = score_ctc(logits.repeat_interleave(2, 0), mask.repeat_interleave(2, 0), labels, blank=0)
    torch.testing.assert_close(together.log_prob, alone.log_prob)
    factors = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    [found] = torch.autograd.grad((together.log_prob * factors).sum(), logits)
    [expected] = torch.autograd.grad((alone.log_prob * factors).sum(), logits)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="`labels` must have a multiple of 2 rows"):
        score_ctc(logits, mask, labels[:3], blank=0)


def test_parallel_samples_are_independent_tokens() -> None:
    nat = model("vanilla_nat").eval()
    uniforms = uniform_numbers([0], num_samples=20000, width=2, seed="a")
    samples = sample_parallel(nat, batch(), uniforms, lengths=torch.tensor([2]))
    with torch.no_grad():
        probs = nat.decode_parallel(nat.encode(SOURCE, torch.ones_like(SOURCE)), torch.tensor([2]))[0].softmax(-1)
    expected = {(first, second): float(probs[0, first] * probs[1, second]) for first in range(4) for second in range(4)}
    assert distance(samples, expected) < 0.02
    scored = score_model(nat, {**batch(SOURCE.expand(9, -1)), "labels": samples.sequences[:9]}).log_prob
    torch.testing.assert_close(samples.log_prob[:9], scored.detach())
    with pytest.raises(ValueError, match="`uniforms` must have 2 numbers"):
        sample_parallel(nat, batch(), uniforms[:, :1], lengths=torch.tensor([2]))


def test_autoregressive_samples_do_not_depend_on_the_batch_and_say_their_probability() -> None:
    spec = MODELS["autoregressive"]
    torch.manual_seed(0)
    writer = spec.model(spec.config(vocab_size=9, **SIZES)).double().eval()
    for weight in writer.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    sources = torch.tensor([[5, 6, 0], [7, 0, 1]])
    given = {"input_ids": sources, "attention_mask": (sources != 1).long()}
    uniforms = uniform_numbers([3, 4], num_samples=4, width=6, seed="a")
    samples = sample_autoregressive(writer, given, uniforms)
    alone = sample_autoregressive(
        writer, {"input_ids": sources[1:, :2], "attention_mask": torch.ones(1, 2)}, uniforms[4:]
    )
    assert token_lists(samples)[4:] == token_lists(alone)
    assert len({tuple(tokens) for tokens in token_lists(samples)}) > 4
    width = samples.sequences.shape[1]
    labels = samples.sequences.masked_fill(~length_mask(samples.num_tokens, width=width), IGNORED)
    previous = torch.roll(labels, 1, dims=1)
    previous[:, 0] = writer.config.decoder_start_token_id
    scored = score_model(
        writer,
        {
            **{name: values.repeat_interleave(4, 0) for name, values in given.items()},
            "labels": labels,
            "decoder_input_ids": previous.masked_fill(previous == -100, 1),
        },
    )
    # Where padding was drawn, the model numbers positions in another way when it reads the whole.
    plain = (labels != 1).all(1)
    assert plain.sum() > 2
    # The search of transformers works in float32.
    found, expected = samples.log_prob.double()[plain], scored.log_prob.detach()[plain]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert samples.token_log_probs is not None
    torch.testing.assert_close(samples.token_log_probs.sum(1), samples.log_prob)
