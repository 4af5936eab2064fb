from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import argmax_decode, mask_predict_decode

MASK, PAD = 4, 1
BATCH = {"input_ids": torch.tensor([[5, 0], [6, 0]]), "attention_mask": torch.ones(2, 2, dtype=torch.long)}
LENGTHS = torch.tensor([[7, 3, 5], [7, 3, 5]])
LENGTH_LOG_PROBS = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]], dtype=torch.float64).log()
WEIGHT = 2 * torch.randn(9, 12, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def one_row(source: int, observed: list[int]) -> Tensor:
    """Logits (T, 9) in which every position sees all observed tokens, its own the most."""
    context = sum((WEIGHT[token, position] for position, token in enumerate(observed)), WEIGHT[source, 11])
    return torch.stack([0.7 * context + WEIGHT[(token + p) % 9, p] for p, token in enumerate(observed)])


def logits(input_ids: Tensor, lengths: Tensor, decoder_input_ids: Tensor | None) -> Tensor:
    if decoder_input_ids is None:
        decoder_input_ids = torch.full((len(lengths), int(lengths.max())), MASK)
    rows = torch.zeros(*decoder_input_ids.shape, 9, dtype=torch.float64)
    for row, (source, length) in enumerate(zip(input_ids[:, 0].tolist(), lengths.tolist(), strict=True)):
        rows[row, :length] = one_row(source, decoder_input_ids[row, :length].tolist())
    return rows


def by_hand(source: int, length: int, iterations: int) -> tuple[list[list[int]], list[float]]:
    """Algorithm of Ghazvininejad et al. 2019, section 3.2, for one target, with lists and loops."""
    tokens, scores, passes = [MASK] * length, [0.0] * length, []
    for i in range(iterations):
        masked = set(range(length))
        if i:
            num_masked = int(length * (iterations - i) / iterations + 1e-9)
            masked = set(sorted(range(length), key=lambda p: scores[p])[:num_masked])
        observed = [MASK if p in masked else tokens[p] for p in range(length)]
        log_probs = one_row(source, observed).log_softmax(-1).tolist()
        for p in masked:
            scores[p], tokens[p] = max((log_probs[p][v], v) for v in (2, 5, 6, 7, 8))
        passes.append(list(tokens))
    return passes, scores


@pytest.fixture
def model(parallel_model: Callable[..., Any]) -> Any:
    return parallel_model(LENGTHS, LENGTH_LOG_PROBS, logits)


@pytest.mark.parametrize("length_beam", [1, 3])
def test_one_pass_is_argmax(model: Any, length_beam: int) -> None:
    output = mask_predict_decode(model, BATCH, iterations=1, length_beam=length_beam)
    expected = argmax_decode(model, BATCH, length_beam=length_beam)
    assert torch.equal(output.sequences, expected.sequences)
    torch.testing.assert_close(output.log_prob, expected.log_prob)
    assert output.num_passes == 1


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7])
def test_one_length_agrees_with_a_loop(model: Any, iterations: int) -> None:
    output = mask_predict_decode(model, BATCH, iterations=iterations, length_beam=1)
    assert output.num_tokens.tolist() == [7, 5]
    assert output.num_passes == iterations
    for row, (source, length) in enumerate([(5, 7), (6, 5)]):
        passes, scores = by_hand(source, length, iterations)
        assert [sequences[row, :length].tolist() for sequences in output.trace["passes"]] == passes
        assert output.sequences[row, :length].tolist() == passes[-1]
        assert output.log_prob[row].item() == pytest.approx(sum(scores))
    if iterations > 2:
        assert not torch.equal(output.trace["passes"][0], output.sequences), "the passes must change something"


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_best_mean_of_kept_log_probs_wins(model: Any, iterations: int) -> None:
    output = mask_predict_decode(model, BATCH, iterations=iterations, length_beam=3)
    for row, source in enumerate((5, 6)):
        candidates = [by_hand(source, length, iterations) for length in (3, 5, 7)]
        passes, scores = max(candidates, key=lambda candidate: sum(candidate[1]) / len(candidate[1]))
        assert output.sequences[row, : output.num_tokens[row]].tolist() == passes[-1]
        assert output.log_prob[row].item() == pytest.approx(sum(scores))
        assert [p[row, : len(scores)].tolist() for p in output.trace["passes"]] == passes


def test_masks_decay_linearly(model: Any) -> None:
    mask_predict_decode(model, BATCH, iterations=4, length_beam=1)
    masked = [(observed == MASK).sum(1).tolist() for observed in model.observed]
    assert masked == [[7, 5], [5, 3], [3, 2], [1, 1]]
    assert all((observed[1, 5:] == PAD).all() for observed in model.observed)


def test_stops_when_nothing_is_left_to_mask(parallel_model: Callable[..., Any]) -> None:
    model = parallel_model(torch.full((2, 1), 2), torch.zeros(2, 1), logits)
    output = mask_predict_decode(model, BATCH, iterations=5, length_beam=1)
    # Of two tokens, ⌊2·4/5⌋ = 1 is masked in the second pass, ⌊2·3/5⌋ = 1 in the third, ⌊2·2/5⌋ = 0 in the fourth.
    assert output.num_passes == len(model.observed) == len(output.trace["passes"]) == 3


def test_a_rescorer_chooses(model: Any) -> None:
    output = mask_predict_decode(
        model, BATCH, length_beam=3, rescorer=lambda batch, sequences, num_tokens: num_tokens.double()
    )
    assert output.num_tokens.tolist() == [7, 7]


def test_needs_a_mask_token(parallel_model: Callable[..., Any]) -> None:
    model = parallel_model(LENGTHS, LENGTH_LOG_PROBS, logits, mask_token_id=None)
    with pytest.raises(ValueError, match=r"`model.config.mask_token_id` must be set"):
        mask_predict_decode(model, BATCH)


@pytest.mark.parametrize("option", ["iterations", "length_beam"])
def test_options_out_of_range(model: Any, option: str) -> None:
    with pytest.raises(ValueError, match=rf"`{option}` must be at least 1; got 0"):
        mask_predict_decode(model, BATCH, **{option: 0})
