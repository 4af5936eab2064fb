"""Datamodel matching against retraining, on ridge regressions that are solved exactly."""

from __future__ import annotations

import pytest
import torch

from sharpseq.objectives.unlearning import (
    leave_one_out_scores,
    matching_loss,
    outputs_without,
    ridge_leave_one_out_scores,
)

N, D, QUERIES = 60, 8, 20
PENALTY = 0.3


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, q = (torch.randn(count, D, generator=generator, dtype=torch.float64) for count in (N, QUERIES))
    return x, x.sin().sum(1) + torch.randn(N, generator=generator, dtype=torch.float64), q


def fitted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Ridge regression as least squares with more rows, another way than by its normal equations."""
    rows = torch.cat([x, PENALTY**0.5 * torch.eye(D, dtype=x.dtype)])
    return torch.linalg.lstsq(rows, torch.cat([y, torch.zeros(D, dtype=y.dtype)])[:, None]).solution[:, 0]


def kept(forget: list[int]) -> list[int]:
    return [index for index in range(N) if index not in forget]


def test_scores_of_ridge_are_those_of_retraining() -> None:
    x, y, queries = problem()
    retrained = leave_one_out_scores(lambda rows: queries @ fitted(x[rows], y[rows]), N)
    scores = ridge_leave_one_out_scores(x, y, queries, penalty=PENALTY)
    torch.testing.assert_close(scores, retrained, rtol=1e-9, atol=1e-12)


def test_matching_reaches_the_retrained_model_exactly_for_one_example() -> None:
    x, y, queries = problem()
    predicted = outputs_without(queries @ fitted(x, y), ridge_leave_one_out_scores(x, y, queries, penalty=PENALTY), [7])
    weights = torch.linalg.lstsq(queries, predicted[:, None]).solution[:, 0].requires_grad_()
    torch.testing.assert_close(weights.detach(), fitted(x[kept([7])], y[kept([7])]), rtol=1e-9, atol=1e-12)
    loss = matching_loss(queries @ weights, predicted).sum()
    [slope] = torch.autograd.grad(loss, weights)
    assert loss.item() < 1e-20
    assert slope.norm() < 1e-10


def test_for_more_examples_it_is_an_approximation_that_gets_worse() -> None:
    x, y, queries = problem()
    scores, before = ridge_leave_one_out_scores(x, y, queries, penalty=PENALTY), queries @ fitted(x, y)
    errors = []
    for count in (1, 2, 20):
        found = []
        for start in range(10):
            forget = [(start * 6 + index) % N for index in range(count)]
            after = queries @ fitted(x[kept(forget)], y[kept(forget)])
            found.append((outputs_without(before, scores, forget) - after).norm() / (after - before).norm())
        errors.append(float(torch.stack(found).mean()))
    assert errors[0] < 1e-9 < 0.01 < errors[1] < errors[2]


def test_what_does_not_fit_is_said() -> None:
    x, y, queries = problem()
    with pytest.raises(ValueError, match="`penalty` must be greater than 0; got 0"):
        ridge_leave_one_out_scores(x, y, queries, penalty=0.0)
    with pytest.raises(ValueError, match=r"must have shapes \(N, D\), \(N,\) and \(Q, D\)"):
        ridge_leave_one_out_scores(x, y[1:], queries, penalty=1.0)
    scores = torch.zeros(2, 3)
    for forget in ([], [3], [-1], [1, 1]):
        with pytest.raises(ValueError, match="`forget` must hold numbers from 0 to 2, each once"):
            outputs_without(torch.zeros(2), scores, forget)
    with pytest.raises(ValueError, match=r"shapes \(Q,\) and \(Q, N\)"):
        outputs_without(torch.zeros(3), scores, [0])
    with pytest.raises(ValueError, match="must have the same shape"):
        matching_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="`num_examples` must be at least 2"):
        leave_one_out_scores(lambda rows: torch.zeros(1), 1)
