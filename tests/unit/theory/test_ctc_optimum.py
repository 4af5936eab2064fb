"""The best frames of CTC: alignments against another implementation, optima against a general optimiser."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.scoring import score_ctc
from sharpseq.theory import optimal_ctc, optimal_distribution, optimal_factorised
from sharpseq.theory.ctc_optimum import BLANK, ctc_alignments

TWO = [("thank", "you"), ("many", "thanks")]
MIXED = [("thanks",), ("many", "thanks"), ("thanks", "a", "lot")]


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ctc_log_probs(logits: torch.Tensor, outcomes: list[tuple[str, ...]], vocabulary: tuple[str, ...]) -> torch.Tensor:
    """log q(y) by the forward algorithm of torch, which enumerates nothing."""
    longest = max(map(len, outcomes))
    labels = torch.full((len(outcomes), longest), -100)
    for row, outcome in zip(labels, outcomes, strict=True):
        row[: len(outcome)] = torch.tensor([vocabulary.index(token) for token in outcome])
    many = logits.expand(len(outcomes), -1, -1)
    mask = torch.ones(many.shape[:2], dtype=torch.bool)
    return score_ctc(many, mask, labels, blank=0).log_prob


@pytest.mark.parametrize("num_frames", [3, 4, 5])
@pytest.mark.parametrize("outcomes", [TWO, MIXED, [("a", "a"), ("a",)]], ids=["two", "mixed", "repeated"])
def test_the_sum_over_alignments_is_that_of_the_forward_algorithm(
    outcomes: list[tuple[str, ...]], num_frames: int
) -> None:
    vocabulary = (BLANK, *dict.fromkeys(itertools.chain(*outcomes)))
    alignments = ctc_alignments(outcomes, vocabulary, num_frames=num_frames)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, num_frames, len(vocabulary), generator=generator, dtype=torch.float64)
    mine, _ = alignments.log_probs(torch.log_softmax(logits, -1))
    for row, single in zip(mine, logits, strict=True):
        assert torch.allclose(row, ctc_log_probs(single, outcomes, vocabulary), atol=1e-9)


@pytest.mark.parametrize("transform", [Identity(), Exponential(0.8), Exponential(2.0), Power(0.5)], ids=str)
def test_a_general_optimiser_finds_nothing_better(transform: Transform) -> None:
    """L-BFGS on the logits of frames, through the forward algorithm and autograd."""
    p_data = doubles(0.45, 0.35, 0.2)
    lengths = doubles(1, 2, 3)
    best = optimal_ctc(MIXED, p_data, transform, num_frames=4)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.tensor(flat).view(4, -1).requires_grad_()
        log_p = ctc_log_probs(logits, MIXED, best.vocabulary)
        value = -(p_data * transform(log_p / lengths)).sum()
        value.backward()
        assert logits.grad is not None
        return float(value.detach()), logits.grad.flatten().numpy()

    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(12):
        start = 2 * torch.randn(4 * len(best.vocabulary), generator=generator, dtype=torch.float64).numpy()
        found.append(float(minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).fun))
    assert best.loss <= min(found) + 1e-9
    if transform != Exponential(2.0):  # from random starts, a descent on this one ends at another output
        assert best.loss == pytest.approx(min(found), abs=1e-4)


def test_the_loss_of_the_result_is_that_of_its_frames_and_of_its_outputs() -> None:
    p_data, lengths = doubles(0.45, 0.35, 0.2), doubles(1, 2, 3)
    best = optimal_ctc(MIXED, p_data, Exponential(0.7), num_frames=4, weighting="token_mean")
    log_p = ctc_log_probs(best.log_probs.clamp(min=-700), MIXED, best.vocabulary)
    assert -float((p_data * lengths * torch.exp(0.7 * log_p / lengths)).sum()) == pytest.approx(best.loss, abs=1e-9)
    outputs = best.outputs(num_most=10_000)
    assert sum(outputs.values()) == pytest.approx(1)
    seen = [outputs.get(outcome, 0.0) for outcome in MIXED]
    assert seen == pytest.approx(best.outcome_log_probs.exp().tolist(), abs=1e-9)
    assert 1 - sum(seen) == pytest.approx(best.unseen_mass, abs=1e-9)
    assert best.best_output == max(outputs, key=lambda output: outputs[output])


@pytest.mark.parametrize("transform", [Identity(), Exponential(0.6), Exponential(1.5)], ids=str)
def test_as_many_frames_as_tokens_leave_no_alignments(transform: Transform) -> None:
    ctc = optimal_ctc(TWO, doubles(0.6, 0.4), transform, num_frames=2)
    factorised = optimal_factorised(TWO, doubles(0.6, 0.4), transform)
    assert ctc.loss == pytest.approx(factorised.loss, abs=1e-9)
    assert ctc.unseen_mass == pytest.approx(factorised.unseen_mass, abs=1e-6)


@pytest.mark.parametrize("k", [0.0, 0.5, 0.9])
def test_more_frames_do_not_keep_apart_what_excludes_each_other(k: float) -> None:
    transform = BoxCox(k)
    factorised = optimal_factorised(TWO, doubles(0.6, 0.4), transform)
    for num_frames in (3, 4):
        ctc = optimal_ctc(TWO, doubles(0.6, 0.4), transform, num_frames=num_frames)
        assert ctc.loss == pytest.approx(factorised.loss, abs=1e-7)
        assert ctc.unseen_mass == pytest.approx(factorised.unseen_mass, abs=1e-3)


def test_a_word_more_or_less_is_not_mixed_and_the_bound_proves_it() -> None:
    outcomes, p_data = [("thanks",), ("many", "thanks")], doubles(0.6, 0.4)
    best = optimal_ctc(outcomes, p_data, Identity(), num_frames=3)
    free = optimal_distribution(p_data, Identity(), lengths=[1, 2])
    assert best.unseen_mass < 1e-9
    assert best.outcome_log_probs.exp().tolist() == pytest.approx(free.probs.tolist(), abs=1e-6)
    assert best.gap < 1e-9


def test_from_the_longest_length_on_one_output_is_left() -> None:
    best = optimal_ctc(MIXED, doubles(0.3, 0.45, 0.25), Exponential(3.0), num_frames=4)
    assert best.outputs() == {("many", "thanks"): 1.0}
    assert best.gap < 1e-9


def test_weighting_per_token_turns_to_the_longer_output() -> None:
    outcomes, p_data = [("thanks",), ("many", "thanks")], doubles(0.55, 0.45)
    sequence = optimal_ctc(outcomes, p_data, Exponential(3.0), num_frames=3)
    token = optimal_ctc(outcomes, p_data, Exponential(3.0), num_frames=3, weighting="token_mean")
    assert sequence.best_output == ("thanks",)
    assert token.best_output == ("many", "thanks")


@pytest.mark.parametrize(
    ("outcomes", "num_frames", "reported"),
    [
        ([("a", "a")], 2, "`num_frames` must be enough for 'a a'; got 2"),
        ([("a", BLANK)], 3, "`outcomes` must not contain '–', which means the blank"),
        ([tuple("abcdefghij")], 10, "11 tokens at `num_frames` 10 make too many paths to enumerate"),
    ],
)
def test_arguments_that_make_no_sense(outcomes: list[tuple[str, ...]], num_frames: int, reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        optimal_ctc(outcomes, [1.0], Identity(), num_frames=num_frames)


def test_as_many_probabilities_as_outcomes() -> None:
    with pytest.raises(ValueError, match="`p_data` must have one entry for each of the 2 outcomes; got 3"):
        optimal_ctc(TWO, [0.2, 0.3, 0.5], Identity(), num_frames=3)
