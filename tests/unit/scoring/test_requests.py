"""What a loss can ask of a model: every model answers, values and gradients are those of the full softmax."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sharpseq.models import MODELS
from sharpseq.scoring import IGNORED, ScoreRequest, SequenceScores, row_statistics, score_ctc, score_logits, score_model

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
V = 13


def llama() -> LlamaForCausalLM:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=V, **sizes)).double()


def family(name: str) -> Any:
    return MODELS[name].model(MODELS[name].config(vocab_size=V, dropout=0.0, **SIZES)).double()


def batch_for(name: str) -> dict[str, Tensor]:
    labels = torch.tensor([[7, 8, 9], [6, 5, IGNORED]])
    if name == "llama":
        return {"input_ids": labels.clamp(min=0), "labels": labels}
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [9, 10, 0, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "labels": labels,
    }
    return {**batch, "decoder_input_ids": torch.tensor([[0, 7, 8], [0, 6, 1]])} if name == "autoregressive" else batch


def model_for(name: str) -> Any:
    torch.manual_seed(0)
    return (llama() if name == "llama" else family(name)).eval()


NAMES = [*MODELS, "llama"]
WITH_POSITIONS = [name for name in NAMES if name != "masked_diffusion"]


def divergence_to_uniform(logits: Tensor, rows: Tensor) -> Tensor:
    """KL(uniform ‖ model) of each row."""
    return -torch.log_softmax(logits, -1).mean(-1) - torch.tensor(float(V)).log()


@pytest.mark.parametrize("together", [1, 2, 100])
@pytest.mark.parametrize("name", WITH_POSITIONS)
def test_every_model_answers_and_the_head_gives_the_same_numbers(
    name: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_statistics, "CHUNK_ELEMENTS", together * V)
    model = model_for(name)
    request = ScoreRequest(
        vocab_mean=True, entropy=True, hidden_states=True, statistics={"to_uniform": divergence_to_uniform}
    )
    scores = score_model(model, batch_for(name), request=request)
    assert scores.positions is not None
    mask, values = scores.positions.mask, scores.positions.statistics["to_uniform"]
    assert (values[~mask] == 0).all()
    logits = scores.positions.head(scores.positions.hidden_states[mask])
    expected = divergence_to_uniform(logits, mask.flatten().nonzero()[:, 0])
    torch.testing.assert_close(values[mask], expected)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(values.square().sum(), weights, retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(expected.square().sum(), weights, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    # The same numbers from the mean over the vocabulary, which no chunk of logits was held for.
    by_mean = scores.vocab_mean_log_prob / scores.num_tokens
    by_row = -(values.sum(1) / mask.sum(1) + torch.tensor(float(V)).log())
    torch.testing.assert_close(by_mean, by_row.double())
    assert (scores.entropy > 0).all()


@pytest.mark.parametrize(
    "request_",
    [
        ScoreRequest(hidden_states=True),
        ScoreRequest(token_log_probs=True),
        ScoreRequest(statistics={"to_uniform": divergence_to_uniform}),
    ],
    ids=["hidden_states", "tokens", "statistics"],
)
def test_a_model_of_random_positions_refuses(request_: ScoreRequest) -> None:
    with pytest.raises(ValueError, match="masked diffusion bounds the probability of whole sequences"):
        score_model(model_for("masked_diffusion"), batch_for("masked_diffusion"), request=request_)


def test_rows_say_which_positions_they_are() -> None:
    seen: list[Tensor] = []

    def record(logits: Tensor, rows: Tensor) -> Tensor:
        seen.append(rows)
        return logits[:, 0]

    logits, labels = torch.randn(2, 3, V), torch.tensor([[1, IGNORED, 2], [IGNORED, 3, IGNORED]])
    scores = score_logits(logits, labels, request=ScoreRequest(statistics={"first": record}))
    assert torch.cat(seen).tolist() == [0, 1, 2]
    expected = logits[:, :, 0].masked_fill(labels == IGNORED, 0.0)
    torch.testing.assert_close(scores.positions.statistics["first"], expected)


def test_rows_of_a_sequence_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def record(logits: Tensor, rows: Tensor) -> Tensor:
        seen.append(rows.tolist())
        return logits[:, 0]

    monkeypatch.setattr(row_statistics, "CHUNK_ELEMENTS", 5 * V)
    labels = torch.full((4, row_statistics.BLOCK + 2), IGNORED)
    for row, count in enumerate((3, 3, 2, row_statistics.BLOCK + 2)):
        labels[row, :count] = 1
    score_logits(torch.randn(*labels.shape, V), labels, request=ScoreRequest(statistics={"first": record}))
    assert [len(rows) for rows in seen] == [3, 5, row_statistics.BLOCK, 2]
    assert list(itertools.chain(*seen)) == list(range(8 + row_statistics.BLOCK + 2))


def test_statistics_of_ctc_are_those_of_real_frames() -> None:
    logits, mask = torch.randn(1, 4, V), torch.tensor([[True, True, True, False]])
    request = ScoreRequest(statistics={"largest": lambda rows, _: rows.amax(-1)})
    scores = score_ctc(logits, mask, torch.tensor([[2, 3]]), blank=0, request=request)
    torch.testing.assert_close(scores.positions.statistics["largest"], logits.amax(-1).masked_fill(~mask, 0.0))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_add_up_and_bounds_are_marked(name: str) -> None:
    scores: SequenceScores = score_model(model_for(name), batch_for(name))
    if name in ("ctc", "dag", "masked_diffusion"):
        assert scores.tokens is None
    else:
        torch.testing.assert_close(scores.tokens.log_probs.sum(1), scores.log_prob)
        assert torch.equal(scores.tokens.mask.sum(1), scores.num_tokens)
    assert bool(scores.is_bound) == (name in ("latent_nat", "masked_diffusion"))
    assert scores.positions is None, "nobody asked"


def test_requests_join() -> None:
    one = ScoreRequest(vocab_mean=True, statistics={"a": divergence_to_uniform})
    other = ScoreRequest(hidden_states=True, statistics={"b": divergence_to_uniform})
    joined = one | other
    assert joined.vocab_mean and joined.hidden_states and not joined.entropy
    assert set(joined.statistics) == {"a", "b"}
