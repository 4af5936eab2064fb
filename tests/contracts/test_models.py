"""What every model family must do, over the whole table."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, PreTrainedModel

from sharpseq.models import MODELS, ModelFamily
from sharpseq.scoring import ScoreRequest, score_model

TINY = {
    "vocab_size": 23,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 32,
    "max_source_positions": 32,
    "max_target_positions": 32,
}


@pytest.fixture(params=MODELS, ids=list(MODELS))
def spec(request: pytest.FixtureRequest) -> ModelFamily:
    return MODELS[request.param]


def build(spec: ModelFamily, **changes: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return spec.model(spec.config(**{**TINY, **changes})).eval()


def make_batch(spec: ModelFamily) -> dict[str, torch.Tensor]:
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 0], [9, 10, 0, 1, 1], [11, 12, 13, 0, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
        "labels": torch.tensor([[7, 8, 9, 10], [6, 5, -100, -100], [15, 16, 17, -100]]),
    }
    if spec.predicts_eos:
        batch["decoder_input_ids"] = torch.tensor([[0, 7, 8, 9], [0, 6, 1, 1], [0, 15, 16, 1]])
    return batch


def test_scores_have_one_number_a_sequence(spec: ModelFamily) -> None:
    scores = score_model(build(spec), make_batch(spec), request=ScoreRequest(vocab_mean=True))
    assert scores.log_prob.shape == scores.vocab_mean_log_prob.shape == (3,)
    assert scores.num_tokens.tolist() == [4, 2, 3]
    assert (scores.log_prob < 0).all()
    assert all(values.shape == (3,) for values in (scores.regularizers or {}).values())


def test_saved_and_loaded_it_gives_the_same_bits(spec: ModelFamily, tmp_path: Path) -> None:
    model = build(spec)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    # transformers' bare M2M100 is what AutoModel makes of the autoregressive family; it has no head.
    assert spec.predicts_eos or type(AutoModel.from_pretrained(tmp_path)) is type(model)
    assert type(loaded) is type(model)
    assert loaded.config.to_dict().items() >= {"vocab_size": 23, "encoder_layers": 2, "decoder_layers": 1}.items()
    first, second = (score_model(m, make_batch(spec)) for m in (model, loaded))
    assert torch.equal(first.log_prob, second.log_prob)


def test_every_parameter_gets_a_gradient(spec: ModelFamily) -> None:
    model = build(spec).train()
    scores = score_model(model, make_batch(spec))
    (scores.log_prob.sum() + sum(values.sum() for values in (scores.regularizers or {}).values())).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


def test_padding_and_batch_order_change_nothing(spec: ModelFamily) -> None:
    model, batch = build(spec).double(), make_batch(spec)
    expected = score_model(model, batch, request=ScoreRequest(vocab_mean=True))
    pads = {"input_ids": 1, "attention_mask": 0, "labels": -100, "decoder_input_ids": 1}
    padded = {name: torch.nn.functional.pad(ids, (0, 3), value=pads[name]) for name, ids in batch.items()}
    order = torch.tensor([2, 0, 1])
    reordered = {name: ids[order] for name, ids in batch.items()}
    torch.testing.assert_close(
        score_model(model, padded, request=ScoreRequest(vocab_mean=True)).log_prob, expected.log_prob
    )
    torch.testing.assert_close(
        score_model(model, padded, request=ScoreRequest(vocab_mean=True)).vocab_mean_log_prob,
        expected.vocab_mean_log_prob,
    )
    torch.testing.assert_close(score_model(model, reordered).log_prob, expected.log_prob[order])
    for name, values in (expected.regularizers or {}).items():
        torch.testing.assert_close(score_model(model, padded).regularizers[name], values)


def test_learns_one_batch_by_heart(spec: ModelFamily) -> None:
    model, batch = build(spec, dropout=0.0).train(), make_batch(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        scores = score_model(model, batch)
        optimizer.zero_grad()
        (-scores.log_prob.sum()).backward()
        optimizer.step()
    model.eval()
    assert (score_model(model, batch).log_prob.exp() > 0.9).all()


def test_runs_under_bfloat16_autocast_close_to_float32(spec: ModelFamily) -> None:
    model, batch = build(spec), make_batch(spec)
    expected = score_model(model, batch).log_prob
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = score_model(model, batch)
    assert scores.log_prob.dtype == torch.float32
    torch.testing.assert_close(scores.log_prob, expected, rtol=0.05, atol=0.1)


def test_runs_with_bfloat16_weights_close_to_float32(spec: ModelFamily) -> None:
    model, batch = build(spec), make_batch(spec)
    expected = score_model(model, batch).log_prob
    scores = score_model(model.bfloat16(), batch)
    assert scores.log_prob.dtype == torch.float32
    torch.testing.assert_close(scores.log_prob, expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("layers", [(5, 1), (1, 3)])
def test_any_depth_of_encoder_and_decoder_works(spec: ModelFamily, layers: tuple[int, int]) -> None:
    model = build(spec, encoder_layers=layers[0], decoder_layers=layers[1])
    assert score_model(model, make_batch(spec)).log_prob.isfinite().all()


def test_impossible_sizes_are_refused(spec: ModelFamily) -> None:
    if spec.predicts_eos:
        pytest.skip("the configuration is transformers' own")
    with pytest.raises(ValueError, match="encoder_layers"):
        build(spec, encoder_layers=0)
    with pytest.raises(ValueError, match="even multiple"):
        build(spec, d_model=18)
    with pytest.raises(ValueError, match="dropout"):
        build(spec, dropout=1.0)
    with pytest.raises(ValueError, match="max_source_positions"):
        build(spec).encode(torch.full((1, 33), 5), torch.ones(1, 33))
