"""What is accepted as a problem, what is refused and in which words, and the loss and gains it defines."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from sharpseq.objectives import BoxCox, Exponential, Identity, Power, derivative
from sharpseq.theory import (
    NormalizationWarning,
    function_of_probability,
    loss,
    make_problem,
    marginal_gains,
    optimal_distribution,
)
from sharpseq.theory.problem import log_derivative, value_at_zero


class WrongDerivative:
    def __call__(self, g: torch.Tensor) -> torch.Tensor:
        return torch.exp(2 * g)

    def derivative(self, g: torch.Tensor) -> torch.Tensor:
        return torch.exp(2 * g)


@pytest.mark.parametrize(
    ("p_data", "lengths", "message"),
    [
        ([0.5, -0.5, 1.0], None, "`p_data` must not be negative; got -0.5 at index 1"),
        ([0.5, math.nan], None, "`p_data` must be finite; got nan at index 1"),
        ([math.inf, 0.5], None, "`p_data` must be finite; got inf at index 0"),
        ([], None, "`p_data` must have at least one outcome"),
        ([0.0, 0.0], None, "`p_data` must have some mass"),
        ([0.5, 0.4], None, "`p_data` must sum to 1 or hold whole counts; it sums to 0.9"),
        ([[0.5, 0.5]], None, r"`p_data` must have one dimension; got shape \(1, 2\)"),
        ([0.5, 0.5], [1], "`lengths` must have one entry for each of the 2 outcomes; got 1"),
        ([0.5, 0.5], [3, 0.5], "`lengths` must be at least 1; got 0.5 at index 1"),
        ([0.5, 0.5], [3, 0], "`lengths` must be at least 1; got 0 at index 1"),
        ([0.5, 0.5], [3, math.nan], "`lengths` must be finite; got nan at index 1"),
    ],
)
def test_impossible_data_and_lengths_are_refused(p_data: list[Any], lengths: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimal_distribution(p_data, Identity(), lengths=lengths)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda g: -g, "`transform` must increase"),
        (lambda g: torch.sin(g), "`transform` must increase; it does not at g = "),
        (lambda g: 0 * g, "`transform` must increase"),
        (lambda g: -((g + 3) ** 2), "`transform` must increase"),
        (WrongDerivative(), "derivative that disagrees with finite differences at g = .*: 0.999.* against 1.999"),
        (lambda g: g.detach() * 1.0, "`transform` must be differentiable by torch or carry a `derivative`"),
        (lambda g: torch.log(g + 1), "`transform` must be finite below 0; got nan"),
        (lambda g: g.sum(), r"`transform` must work elementwise; got shape \(\)"),
        (lambda g: g.float(), "`transform` must keep float64"),
    ],
)
def test_transforms_that_are_not_increasing_and_differentiable_are_refused(transform: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimal_distribution([0.5, 0.5], transform)


@pytest.mark.parametrize("transform", [3.0, lambda g: 1.0])
def test_transforms_that_are_no_functions_of_tensors_are_refused(transform: Any) -> None:
    with pytest.raises(TypeError, match="`transform` must"):
        optimal_distribution([0.5, 0.5], transform)


@pytest.mark.parametrize("p_data", ["half", [object()], [[0.5], [0.2, 0.3]], None])
def test_what_is_no_sequence_of_numbers_is_refused(p_data: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="`p_data` must"):
        optimal_distribution(p_data, Identity())


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match="`weighting` must be 'sequence_mean' or 'token_mean'; got 'per_word'"):
        optimal_distribution([0.5, 0.5], Identity(), weighting="per_word")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "transform",
    [
        Identity(),
        Power(0.05),
        Power(1.0),
        Exponential(0.01),
        Exponential(60.0),
        BoxCox(0.0),
        lambda g: torch.exp(8 * g),
        lambda g: torch.sigmoid(5 * (g + 1)),
        lambda g: g.clamp(min=-5.0),
        function_of_probability(lambda q: q**2),
        # Numbers of order 1 are rounded on the way to values near 0.
        function_of_probability(lambda q: torch.log(q + 0.99999)),
    ],
)
def test_good_transforms_pass_the_check(transform: Any) -> None:
    make_problem([0.5, 0.5], transform)


def test_counts_are_normalised_with_a_notice() -> None:
    with pytest.warns(NormalizationWarning, match="`p_data` holds counts: they were divided by their sum, 4"):
        found = optimal_distribution([3, 1], Identity())
    assert found.probs.tolist() == pytest.approx([0.75, 0.25], abs=1e-15)


def test_probabilities_in_single_precision_are_no_counts() -> None:
    p = torch.rand(1000, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = make_problem(p / p.sum(), Identity())
    assert float(problem.p_data.sum()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("weighting", ["sequence_mean", "token_mean"])
def test_the_loss_is_the_weighted_mean_of_minus_f(weighting: Any) -> None:
    p, q, lengths = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.3]), np.array([1.0, 4.0, 2.0])
    problem = make_problem(p, Exponential(1.5), lengths=lengths, weighting=weighting)
    w = lengths if weighting == "token_mean" else np.ones(3)
    assert loss(problem, torch.from_numpy(q)) == pytest.approx(-(w * p * q ** (1.5 / lengths)).sum(), rel=1e-14)


def test_marginal_gains_are_minus_the_gradient_of_the_loss() -> None:
    problem = make_problem([0.5, 0.3, 0.2], Power(0.6), lengths=[1, 4, 2], weighting="token_mean")
    q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 1e-6
        difference = (loss(problem, q + step) - loss(problem, q - step)) / 2e-6
        assert float(marginal_gains(problem, q)[i]) == pytest.approx(-difference, rel=1e-8)


@pytest.mark.parametrize(
    ("transform", "limit"),
    [
        (Exponential(2.0), 0.0),
        (BoxCox(2.0), -0.5),
        (Identity(), -math.inf),
        (Power(0.05), -math.inf),
        (lambda g: g / (1 - g), -1.0),  # NaN at −∞
        (lambda g: -torch.log(1 - g), -math.inf),
        (function_of_probability(lambda q: torch.log(q + 0.5)), math.log(0.5)),
    ],
)
def test_the_value_at_probability_zero_is_the_limit(transform: Any, limit: float) -> None:
    assert value_at_zero(transform) == pytest.approx(limit, abs=1e-12)


@pytest.mark.parametrize("transform", [Exponential(3.0), BoxCox(3.0), Power(0.5), torch.sigmoid])
def test_the_logarithm_of_the_derivative_is_that(transform: Any) -> None:
    g = torch.tensor([-8.0, -1.0, -0.01], dtype=torch.float64)
    torch.testing.assert_close(log_derivative(transform, g), derivative(transform, g).log())
