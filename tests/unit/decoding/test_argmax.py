from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import argmax_decode

BATCH = {"input_ids": torch.tensor([[5, 0], [6, 0]]), "attention_mask": torch.ones(2, 2, dtype=torch.long)}
LENGTHS = torch.tensor([[2, 3, 4], [2, 3, 4]])
LENGTH_LOG_PROBS = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64).log()


def random_logits(input_ids: Tensor, lengths: Tensor, decoder_input_ids: Tensor | None) -> Tensor:
    """Logits that depend on the source, the length and the position, and like special tokens best."""
    rows = []
    for source, length in zip(input_ids[:, 0].tolist(), lengths.tolist(), strict=True):
        generator = torch.Generator().manual_seed(100 * source + length)
        rows.append(2 * torch.randn(4, 9, dtype=torch.float64, generator=generator))
    logits = torch.stack(rows)[:, : int(lengths.max())]
    logits[:, :, [0, 1, 3, 4]] += 3
    return logits


@pytest.fixture
def model(parallel_model: Callable[..., Any]) -> Any:
    return parallel_model(LENGTHS, LENGTH_LOG_PROBS, random_logits)


def best_tokens(source: int, length: int) -> tuple[list[int], float]:
    """The same by a loop over positions."""
    logits = random_logits(torch.tensor([[source]]), torch.tensor([length]), None)[0]
    tokens, log_prob = [], 0.0
    for row in logits.softmax(-1).tolist():
        probability, token = max((p, v) for v, p in enumerate(row) if v in {2, 5, 6, 7, 8})
        tokens.append(token)
        log_prob += torch.tensor(probability, dtype=torch.float64).log().item()
    return tokens, log_prob


def test_one_length_is_the_most_probable_one(model: Any) -> None:
    output = argmax_decode(model, BATCH)
    first, second = best_tokens(5, 3), best_tokens(6, 2)
    assert output.num_tokens.tolist() == [3, 2]
    assert output.sequences.tolist() == [first[0], [*second[0], 1]]
    torch.testing.assert_close(output.log_prob, torch.tensor([first[1], second[1]], dtype=torch.float64))
    assert output.trace == {}
    assert len(model.observed) == output.num_passes == 1


def test_the_candidate_with_the_best_mean_wins(model: Any) -> None:
    output = argmax_decode(model, BATCH, length_beam=3)
    for row, source in enumerate((5, 6)):
        candidates = [best_tokens(source, length) for length in (2, 3, 4)]
        tokens, log_prob = max(candidates, key=lambda candidate: candidate[1] / len(candidate[0]))
        assert output.sequences[row, : output.num_tokens[row]].tolist() == tokens
        assert output.log_prob[row].item() == pytest.approx(log_prob)
    assert output.trace["candidates"].shape == (2, 3, 4)
    assert len(model.observed) == output.num_passes == 1


def test_a_rescorer_changes_the_choice(model: Any) -> None:
    seen: dict[str, Any] = {}

    def shortest(batch: Any, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        seen.update(batch=batch, sequences=sequences, num_tokens=num_tokens)
        return -num_tokens.double()

    plain = argmax_decode(model, BATCH, length_beam=3)
    rescored = argmax_decode(model, BATCH, length_beam=3, rescorer=shortest)
    assert rescored.num_tokens.tolist() == [2, 2] != plain.num_tokens.tolist()
    assert rescored.sequences.tolist() == [best_tokens(5, 2)[0], best_tokens(6, 2)[0]]
    assert rescored.log_prob[0].item() == pytest.approx(best_tokens(5, 2)[1])
    assert seen["batch"] is BATCH
    assert seen["num_tokens"].tolist() == [3, 4, 2, 2, 4, 3]
    assert (seen["sequences"][2, 2:] == 1).all()


def test_no_rescoring_of_a_single_candidate(model: Any) -> None:
    def never(batch: Any, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        raise AssertionError("there is nothing to choose")

    assert argmax_decode(model, BATCH, rescorer=never).num_tokens.tolist() == [3, 2]


def test_length_beam_out_of_range(model: Any) -> None:
    with pytest.raises(ValueError, match=r"`length_beam` must be at least 1; got 0"):
        argmax_decode(model, BATCH, length_beam=0)
