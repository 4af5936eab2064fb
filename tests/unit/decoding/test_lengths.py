from __future__ import annotations

import pytest
import torch

from sharpseq.decoding import length_candidates
from sharpseq.decoding.lengths import choose_candidates


def test_best_first_and_the_shorter_of_equals() -> None:
    lengths = torch.tensor([[3, 4, 5, 6]])
    log_probs = torch.tensor([[0.2, 0.3, 0.3, 0.2]]).log()
    candidates, best = length_candidates(lengths, log_probs, num_candidates=4, max_length=9)
    assert candidates.tolist() == [[4, 5, 3, 6]]
    torch.testing.assert_close(best.exp(), torch.tensor([[0.3, 0.3, 0.2, 0.2]]))


def test_classes_of_one_length_add_up() -> None:
    lengths = torch.tensor([[-1, 0, 1, 2, 3]])
    log_probs = torch.tensor([[0.15, 0.15, 0.15, 0.3, 0.25]]).log()
    candidates, best = length_candidates(lengths, log_probs, num_candidates=2, max_length=9)
    assert candidates.tolist() == [[1, 2]]
    torch.testing.assert_close(best.exp(), torch.tensor([[0.45, 0.3]]))


def test_lengths_beyond_the_model_mean_its_longest() -> None:
    lengths = torch.tensor([[5, 6, 7]])
    log_probs = torch.tensor([[0.4, 0.3, 0.3]]).log()
    assert length_candidates(lengths, log_probs, num_candidates=1, max_length=6)[0].tolist() == [[6]]


def test_a_source_with_few_lengths_repeats_its_best() -> None:
    lengths = torch.tensor([[1, 1, 1, 2], [7, 8, 9, 10]])
    log_probs = torch.full((2, 4), 0.25).log()
    candidates, best = length_candidates(lengths, log_probs, num_candidates=4, max_length=20)
    assert candidates.tolist() == [[1, 2, 1, 1], [7, 8, 9, 10]]
    torch.testing.assert_close(best[0].exp(), torch.tensor([0.75, 0.25, 0.75, 0.75]))


def test_never_more_candidates_than_classes_nor_fewer_when_all_are_short() -> None:
    log_probs = torch.full((1, 3), 1 / 3).log()
    candidates, _ = length_candidates(torch.tensor([[1, 1, 1]]), log_probs, num_candidates=9, max_length=20)
    assert candidates.tolist() == [[1, 1, 1]]


def test_impossible_and_improbable_lengths() -> None:
    log_probs = torch.tensor([[-torch.inf, 0.0, -300.0, -200.0]])  # exp(−200) is 0 in float32
    candidates, best = length_candidates(torch.tensor([[1, 2, 3, 4]]), log_probs, num_candidates=4, max_length=20)
    assert candidates.tolist() == [[2, 4, 3, 2]]
    torch.testing.assert_close(best, torch.tensor([[0.0, -200.0, -300.0, 0.0]]))


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_a_broken_length_predictor_is_an_error(value: float) -> None:
    log_probs = torch.tensor([[0.0, 0.0], [value, value]])
    with pytest.raises(ValueError, match=r"`log_probs` must make some length possible; row 1 has none"):
        length_candidates(torch.tensor([[1, 2], [1, 2]]), log_probs, num_candidates=1, max_length=3)


def test_a_beam_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"`num_candidates` must be at least 1; got 0"):
        length_candidates(torch.ones(1, 2), torch.zeros(1, 2), num_candidates=0, max_length=3)


def test_the_highest_mean_wins_not_the_highest_sum() -> None:
    rows, trace = choose_candidates(
        {},
        torch.zeros(4, 4, dtype=torch.long),
        log_prob=torch.tensor([-2.0, -3.0, -5.0, -1.0]),
        num_tokens=torch.tensor([1, 4, 2, 1]),
        num_candidates=2,
        rescorer=None,
    )
    assert rows.tolist() == [1, 3]
    assert trace["candidates"].shape == (2, 2, 4)
    torch.testing.assert_close(trace["candidate_scores"], torch.tensor([[-2.0, -0.75], [-2.5, -1.0]]))


def test_a_rescorer_must_score_every_candidate() -> None:
    with pytest.raises(ValueError, match=r"`rescorer` must return shape \(2,\); got \(1,\)"):
        choose_candidates(
            {},
            torch.zeros(2, 4),
            log_prob=torch.zeros(2),
            num_tokens=torch.ones(2),
            num_candidates=2,
            rescorer=lambda batch, sequences, num_tokens: torch.zeros(1),
        )
