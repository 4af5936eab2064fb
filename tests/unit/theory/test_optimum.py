"""The optimum against closed forms and at corners; its certificate; a hundred thousand outcomes."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.theory import (
    function_of_probability,
    kkt_residual,
    loss,
    make_problem,
    marginal_gains,
    optimal_distribution,
    sharpened,
)
from sharpseq.theory.branch_and_bound import branch_and_bound
from sharpseq.theory.concave import Demand, solve_concave
from sharpseq.theory.curvature import curvature

P = np.array([0.4, 0.3, 0.2, 0.1])
LENGTHS = np.array([2.0, 5.0, 3.0, 4.0])


def many(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Data that fall like 1/rank, and lengths from 1 to 30."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.5, n) / np.arange(1, n + 1)
    return torch.from_numpy(p / p.sum()), torch.from_numpy(rng.integers(1, 31, n).astype(float))


@pytest.mark.parametrize("T", [1, 3, 20])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.9, 0.999])
def test_equal_lengths_are_sharpened_like_a_temperature(T: int, ratio: float) -> None:
    found = optimal_distribution(P, Exponential(ratio * T), lengths=[T] * 4)
    powers = (P / P[0]) ** (1 / (1 - ratio))
    np.testing.assert_allclose(found.probs, powers / powers.sum(), rtol=1e-10)
    np.testing.assert_allclose(sharpened(torch.from_numpy(P), k=ratio * T, length=T), found.probs, rtol=1e-10)


@pytest.mark.parametrize("k", [3.0, 3.5, 100.0])
def test_k_at_or_above_the_length_puts_all_mass_on_the_most_probable(k: float) -> None:
    for found in (optimal_distribution(P[::-1].copy(), Exponential(k), lengths=[3] * 4).probs,):
        assert found.tolist() == [0, 0, 0, 1]
    assert sharpened(torch.from_numpy(P), k=k, length=3).tolist() == [1, 0, 0, 0]


def test_above_every_length_the_largest_stake_wins_whatever_the_lengths() -> None:
    by_sequence = optimal_distribution([0.4, 0.35, 0.25], Exponential(6.0), lengths=[6, 2, 3])
    by_token = optimal_distribution([0.35, 0.25, 0.4], Exponential(6.0), lengths=[2, 6, 3], weighting="token_mean")
    assert (by_sequence.probs.tolist(), by_token.probs.tolist()) == ([1, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("transform", [Identity(), Power(1.0), BoxCox(0.0)])
def test_maximum_likelihood_wants_the_data_divided_by_length_or_the_data_itself(transform: Transform) -> None:
    by_sequence = optimal_distribution(P, transform, lengths=LENGTHS)
    np.testing.assert_allclose(by_sequence.probs, P / LENGTHS / (P / LENGTHS).sum(), rtol=1e-14)
    by_token = optimal_distribution(P, transform, lengths=LENGTHS, weighting="token_mean")
    np.testing.assert_allclose(by_token.probs, P, rtol=1e-14)


def test_normalising_the_exponential_changes_nothing() -> None:
    for k in (0.5, 2.5, 8.0):
        plain, normalised = (optimal_distribution(P, f(k), lengths=LENGTHS) for f in (Exponential, BoxCox))
        assert torch.equal(plain.log_probs, normalised.log_probs)
        assert normalised.loss == pytest.approx((plain.loss + 1) / k, rel=1e-12)


@pytest.mark.parametrize("k", [0.7, 1.9, 2.0, 2.7, 3.0, 3.5, 4.2, 5.0, 6.0])
def test_general_solvers_agree_with_the_special_ones(k: float) -> None:
    """The same exponential, hidden from the solver in a user's function, goes through another room of it."""
    special = optimal_distribution(P, Exponential(k), lengths=LENGTHS, weighting="token_mean")
    general = optimal_distribution(P, lambda g: torch.exp(k * g), lengths=LENGTHS, weighting="token_mean")
    assert (special.method, general.method) in {
        ("closed form", "concave"),
        ("support search", "concave"),  # k = 2: straight for the shortest
        ("support search", "branch and bound"),
        ("one-hot", "one-hot"),
    }
    np.testing.assert_allclose(general.probs, special.probs, atol=1e-10)
    assert general.loss == pytest.approx(special.loss, abs=1e-12)


@pytest.mark.parametrize(
    ("p_data", "lengths", "winner"),
    [
        ([0.30, 0.31, 0.05, 0.34], [3, 1, 2, 9], 0),  # nearly the largest stake, and longer
        ([0.10, 0.45, 0.05, 0.40], [3, 1, 2, 9], 1),  # far the largest stake
        ([0.10, 0.30, 0.20, 0.40], [3, 3, 3, 9], 1),
        ([0.01, 0.02, 0.02, 0.95], [3, 1, 2, 9], None),  # too little at stake for any short one
    ],
)
def test_at_most_one_short_outcome_has_mass_and_all_long_ones(
    p_data: list[float], lengths: list[int], winner: int | None
) -> None:
    found = optimal_distribution(p_data, Exponential(3.5), lengths=lengths)
    assert found.method == "support search"
    assert found.support.tolist() == [i == winner for i in range(3)] + [True]
    alternatives = []
    for i in range(3):
        pair = np.where([j in (i, 3) for j in range(4)], p_data, 0.0)
        alternatives.append(optimal_distribution(pair / pair.sum(), Exponential(3.5), lengths=lengths).probs)
    problem = make_problem(p_data, Exponential(3.5), lengths=lengths)
    assert found.loss == pytest.approx(min(loss(problem, probs) for probs in alternatives), abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_branch_and_bound_agrees_with_the_solver_for_concave_problems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = make_problem(rng.dirichlet(np.ones(8)), lambda g: 0.1 * g + torch.exp(0.8 * g), lengths=[1, 2] * 4)
    found = branch_and_bound(problem)
    np.testing.assert_allclose(found.log_probs.exp(), solve_concave(problem).exp(), atol=1e-12)
    assert found.gap < 1e-10


@pytest.mark.parametrize(
    ("transform", "lengths", "expected"),
    [
        (Identity(), None, "concave"),
        (Exponential(2.0), [2, 5, 3, 4], "concave"),
        (Exponential(5.0), [2, 5, 3, 4], "convex"),
        (Exponential(3.0), [2, 5, 3, 4], "mixed"),
        (function_of_probability(lambda q: q**1.5), None, "convex"),
        (function_of_probability(lambda q: q), None, "convex"),
        (function_of_probability(torch.sqrt), None, "concave"),
        (lambda g: torch.sigmoid(3 * (g + 1)), None, "mixed"),
        (Power(0.5), None, "mixed"),
    ],
)
def test_curvature_of_known_functions(transform: Transform, lengths: list[float] | None, expected: str) -> None:
    T = lengths or [1.0]
    assert curvature(transform, shortest=min(T), longest=max(T)) == expected


def test_outcomes_whose_first_bit_earns_too_little_get_nothing() -> None:
    """F(q) = log(q + a): q = p(1 + na)/Σp − a on the support, and the support is where that is positive."""
    a = 0.25
    found = optimal_distribution(P, function_of_probability(lambda q: torch.log(q + a)))
    on_three = P[:3] * (1 + 3 * a) / P[:3].sum() - a
    assert on_three.min() > 0 > P[3] * (1 + 4 * a) - a
    np.testing.assert_allclose(found.probs, [*on_three, 0], atol=1e-14)
    assert found.method == "concave"
    assert found.log_probs[3] == -math.inf
    assert found.support.tolist() == [True, True, True, False]
    assert found.kkt_residual < 1e-13


def test_outcomes_that_never_occur_get_nothing() -> None:
    for transform in (Identity(), Exponential(0.5), Exponential(3.0), Power(0.5), lambda g: torch.sigmoid(g)):
        found = optimal_distribution([0.0, 0.6, 0.0, 0.4], transform)
        without = optimal_distribution([0.6, 0.4], transform)
        assert found.probs[[0, 2]].tolist() == [0, 0]
        torch.testing.assert_close(found.probs[[1, 3]], without.probs, rtol=0, atol=0)
        assert found.kkt_residual == without.kkt_residual < 1e-9


@pytest.mark.parametrize("transform", [Identity(), Exponential(0.5), Exponential(9.0), Power(0.5), torch.sigmoid])
def test_a_single_outcome_gets_everything(transform: Transform) -> None:
    found = optimal_distribution([1.0], transform, lengths=[7])
    assert (found.probs.tolist(), found.entropy, found.gap, found.kkt_residual) == ([1.0], 0.0, 0.0, 0.0)


def test_ties_are_broken_towards_the_lower_index() -> None:
    for transform in (Exponential(2.0), lambda g: torch.exp(2 * g), function_of_probability(lambda q: q**3)):
        assert optimal_distribution([0.2, 0.4, 0.4], transform).probs.tolist() == [0, 1, 0]


def test_a_step_gives_a_share_to_each_outcome_that_can_pass_it() -> None:
    """A steep sigmoid at q = 0.3 pays for probabilities above it: the best three pass, nothing is left for the rest."""
    found = optimal_distribution(
        [0.3, 0.28, 0.26, 0.16], function_of_probability(lambda q: torch.sigmoid(200 * (q - 0.3)))
    )
    assert found.method == "branch and bound"
    assert (found.probs[:3] > 0.3).all()
    assert found.probs[3] < 0.01
    assert found.gap < 1e-9


@pytest.mark.parametrize(
    "transform",
    [Exponential(0.5), Exponential(3.0), Power(0.5), lambda g: torch.sigmoid(3 * (g + 0.5)), function_of_probability(
        lambda q: torch.log(q + 0.2)
    )],
)  # fmt: skip
def test_the_order_of_outcomes_changes_nothing(transform: Transform) -> None:
    order = [2, 0, 3, 1]
    found = optimal_distribution(P, transform, lengths=LENGTHS)
    shuffled = optimal_distribution(P[order], transform, lengths=LENGTHS[order])
    np.testing.assert_allclose(shuffled.probs, found.probs[order], atol=1e-12)


def test_per_token_weighting_is_per_sequence_with_data_scaled_by_length() -> None:
    scaled = P * LENGTHS / (P * LENGTHS).sum()
    for transform in (Identity(), Exponential(0.5), Exponential(3.0), Power(0.5)):
        by_token = optimal_distribution(P, transform, lengths=LENGTHS, weighting="token_mean")
        by_sequence = optimal_distribution(scaled, transform, lengths=LENGTHS)
        np.testing.assert_allclose(by_token.probs, by_sequence.probs, atol=1e-12)


@pytest.mark.parametrize(
    ("transform", "lengths"),
    [
        (Identity(), LENGTHS),
        (Exponential(1.5), LENGTHS),
        (Exponential(3.0), LENGTHS),
        (Power(0.5), LENGTHS),
        (function_of_probability(lambda q: torch.log(q + 0.1)), None),
    ],
)
def test_the_residual_is_a_certificate(transform: Transform, lengths: Any) -> None:
    """It is rounding at the optimum, and grows with the distance from it."""
    found = optimal_distribution(P, transform, lengths=lengths)
    problem = make_problem(P, transform, lengths=lengths)
    assert found.kkt_residual < 1e-12
    support = found.support
    previous = found.kkt_residual
    for size in (1e-6, 1e-4, 1e-2):
        direction = torch.where(support, torch.tensor([1.0, -1.0, 1.0, -1.0]).double(), 0.0)
        moved = found.log_probs + size * direction
        moved = moved - torch.logsumexp(moved, dim=0)
        residual = kkt_residual(problem, moved)
        assert residual > max(10 * previous, size / 10)
        assert loss(problem, moved.exp()) > found.loss
        previous = residual


def test_the_residual_sees_a_missing_outcome_missing_mass_and_mass_on_the_impossible() -> None:
    a = 0.25
    problem = make_problem(P, function_of_probability(lambda q: torch.log(q + a)))
    best = optimal_distribution(P, problem.transform).probs
    pruned = torch.tensor([*best[:2] / best[:2].sum(), 0, 0])
    gains = marginal_gains(problem, pruned)
    price = (pruned * gains).sum()
    assert kkt_residual(problem, pruned.log()) == pytest.approx(float(gains[2] / price - 1), rel=1e-6)
    assert kkt_residual(problem, (best / 2).log()) >= 0.5
    impossible = make_problem([1.0, 0.0], Identity())
    assert kkt_residual(impossible, torch.tensor([0.5, 0.5]).double().log()) == math.inf


def test_the_gap_bounds_what_is_left_to_gain_in_concave_problems() -> None:
    from sharpseq.theory.optimum import first_order_gap

    problem = make_problem(P, Exponential(1.5), lengths=LENGTHS)
    best = optimal_distribution(P, Exponential(1.5), lengths=LENGTHS)
    rng = np.random.default_rng(0)
    for q in rng.dirichlet(np.ones(4), 50):
        given = torch.from_numpy(q)
        assert loss(problem, given) - best.loss <= first_order_gap(problem, given.log()) + 1e-14
    assert best.gap < 1e-15


@pytest.mark.parametrize("k", [0.3, 0.5, 0.8])
def test_branch_and_bound_closes_its_gap(k: float) -> None:
    for n in (2, 6, 40):
        p = np.random.default_rng(n).dirichlet(np.full(n, 2.0))
        found = optimal_distribution(p, Power(k), lengths=[1 + i % 3 for i in range(n)])
        assert found.method == "branch and bound"
        assert found.gap < 1e-11
        assert found.kkt_residual < 1e-12


def test_probabilities_too_small_for_float64_keep_their_logarithms() -> None:
    found = optimal_distribution([1 - 1e-6, 1e-6], Exponential(0.99))
    assert found.probs[1] == 0
    assert float(found.log_probs[1]) == pytest.approx(100 * math.log(1e-6 / (1 - 1e-6)), rel=1e-9)
    nearly = optimal_distribution([0.9, 0.1], Power(0.05))
    assert float(nearly.log_probs.max()) < 0
    assert nearly.kkt_residual < 1e-10


def test_newtons_steps_towards_the_price_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = []
    at = Demand.at
    monkeypatch.setattr(Demand, "at", lambda self, price: (prices.append(price), at(self, price))[1])
    p, _ = many(5000)
    found = optimal_distribution(p, function_of_probability(lambda q: torch.log(q + 1e-4)))
    assert found.method == "concave"
    assert 0 < int(found.support.sum()) < 5000
    assert len(prices) <= 8


@pytest.mark.parametrize(
    ("transform", "method"),
    [
        (Exponential(0.5), "closed form"),
        (Exponential(8.0), "support search"),
        (Exponential(40.0), "one-hot"),
        (lambda g: torch.exp(0.5 * g), "concave"),
        (Power(0.5), "branch and bound"),
        (lambda g: torch.sigmoid(2 * (g + 2)), "branch and bound"),
    ],
)
def test_a_hundred_thousand_outcomes(transform: Transform, method: str) -> None:
    p, lengths = many(100_000)
    found = optimal_distribution(p, transform, lengths=lengths)
    assert found.method == method
    assert found.kkt_residual < 1e-10
    assert found.gap < 1e-5
    assert float(found.probs.sum()) == pytest.approx(1, abs=1e-12)
