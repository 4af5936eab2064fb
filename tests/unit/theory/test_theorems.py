"""Theorems 1 to 4 and both corollaries over random data and transforms, and what fails when a condition is dropped."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from sharpseq.objectives import Exponential, Identity, Power, Transform
from sharpseq.theory import function_of_probability, loss, make_problem, optimal_distribution
from sharpseq.theory.theorems import (
    crossing_violation,
    entropy_violation,
    growth_violation,
    one_hot_violation,
    order_violation,
    partial_sum_violation,
    search_counterexample,
)

EXACT = 1e-8
few = settings(deadline=None, max_examples=25, derandomize=True)

# Distinct probabilities in falling order: assumption 2 of the paper.
falling_data = st.lists(st.integers(1, 1000), min_size=2, max_size=5, unique=True).map(
    lambda counts: torch.tensor(sorted(counts, reverse=True), dtype=torch.float64) / sum(counts)
)
sharpness = st.floats(0.1, 3.0)


def composed(outer: Transform, inner: Transform) -> Transform:
    return function_of_probability(lambda q: outer(inner(q)))


def exponential_of(k: float) -> Transform:
    return lambda u: torch.exp(k * u)


def softplus_of(k: float) -> Transform:
    return lambda u: softplus(k * (u + 1))


def quadratic_of(k: float) -> Transform:
    return lambda u: u + k * torch.exp(u)


convex_functions = st.builds(
    lambda make, k: make(k), st.sampled_from([exponential_of, softplus_of, quadratic_of]), sharpness
)


def shifted_log(a: float) -> Transform:
    return lambda q: torch.log(q + a)


def root(a: float) -> Transform:
    return lambda q: q ** (a / (1 + a))


def saturating(a: float) -> Transform:
    return lambda q: 1 - torch.exp(-a * q)  # g'''g' = g''²


concave_functions = st.builds(
    lambda make, a: make(a), st.sampled_from([shifted_log, root, saturating]), st.floats(0.05, 3.0)
)


def curved_too_little(a: float) -> Transform:
    """Concave, but with g'''g' < g''²: log g' = (a − 1) log(1 − q) is concave."""
    return lambda q: 1 - (1 - q) ** a


def both(p_data: Tensor, f: Transform, g: Transform) -> tuple[Tensor, Tensor]:
    p_g = optimal_distribution(p_data, function_of_probability(g)).probs
    return p_g, optimal_distribution(p_data, composed(f, g)).probs


def any_increasing(a: float, b: float, k: float) -> Transform:
    return lambda g: a * torch.sigmoid(k * (g + b)) + 0.1 * torch.exp(k * g)


@few
@given(
    falling_data,
    st.one_of(
        st.builds(any_increasing, st.floats(0.1, 2), st.floats(0, 3), sharpness),
        sharpness.map(lambda k: Exponential(k)),
        st.floats(0.3, 1.0).map(lambda k: Power(k)),
        st.builds(composed, convex_functions, concave_functions),
    ),
)
def test_theorem_1_the_optimum_keeps_the_order_of_the_data(p_data: Tensor, transform: Transform) -> None:
    assert order_violation(optimal_distribution(p_data, transform).probs) <= EXACT


@few
@given(
    falling_data,
    st.one_of(
        st.floats(1.0, 9.0).map(lambda k: lambda q: q**k),
        sharpness.map(lambda k: lambda q: torch.exp(k * q)),
        sharpness.map(lambda k: lambda q: q + k * q**3),
    ),
)
def test_theorem_2_convex_functions_want_one_hot(p_data: Tensor, function: Transform) -> None:
    found = optimal_distribution(p_data, function_of_probability(function))
    assert one_hot_violation(found.probs) == 0
    assert found.method == "one-hot"


@few
@given(falling_data, convex_functions, concave_functions)
def test_theorem_3_and_its_corollaries_composition_sharpens(p_data: Tensor, f: Transform, g: Transform) -> None:
    p_g, p_fg = both(p_data, f, g)
    assert crossing_violation(p_g, p_fg) <= EXACT
    assert entropy_violation(p_g, p_fg) <= EXACT
    assert partial_sum_violation(p_g, p_fg) <= EXACT


@few
@given(
    falling_data,
    st.one_of(
        sharpness.map(Exponential),
        st.floats(0.3, 1.0).map(Power),
        st.builds(lambda a, k: lambda g: a * g + torch.exp(k * g), st.floats(0.05, 1.0), sharpness),
    ),
)
def test_theorems_3_and_4_hold_for_what_the_package_trains_with(p_data: Tensor, f: Transform) -> None:
    """Here g = log, whose optimum is the data."""
    p_fg = optimal_distribution(p_data, f).probs
    assert crossing_violation(p_data, p_fg) <= EXACT
    assert entropy_violation(p_data, p_fg) <= EXACT
    assert partial_sum_violation(p_data, p_fg) <= EXACT
    assert growth_violation(p_data, p_fg) <= EXACT


@few
@given(falling_data, convex_functions, concave_functions)
def test_theorem_4_gains_fall_in_order(p_data: Tensor, f: Transform, g: Transform) -> None:
    p_g, p_fg = both(p_data, f, g)
    assert growth_violation(p_g, p_fg) <= EXACT


@settings(deadline=None, max_examples=10, derandomize=True)
@given(falling_data, st.floats(0.1, 0.7))
def test_theorem_3_needs_no_condition_on_curvature(p_data: Tensor, k: float) -> None:
    p_g, p_fg = both(p_data, exponential_of(k), curved_too_little(4))
    assert crossing_violation(p_g, p_fg) <= EXACT
    assert partial_sum_violation(p_g, p_fg) <= EXACT


def test_theorem_4_fails_without_its_condition() -> None:
    """g = 1 − (1 − q)^4 has g'''g' = 96 (1 − q)^4 < 144 (1 − q)^4 = g''², and a search finds growing gains."""
    g = curved_too_little(4)
    found = search_counterexample(
        function_of_probability(g),
        composed(exponential_of(0.7), g),
        violation=growth_violation,
        num_trials=20,
    )
    assert found is not None
    gains = found.p_fg - found.p_g
    assert gains[1] > gains[0] + 0.01 > 0.01
    assert gains[2] < 0
    assert found.violation == pytest.approx(float(gains[1] - gains[0]), abs=1e-6)
    # Independent of the solver: both are stationary, with p (1 − q)³, times f' in the second, equal on the support.
    p, q, r = (vector.numpy() for vector in (found.p_data, found.p_g, found.p_fg))
    np.testing.assert_allclose(p * (1 - q) ** 3, (p * (1 - q) ** 3).mean(), rtol=1e-9)
    weighted = p[:2] * (1 - r[:2]) ** 3 * np.exp(0.7 * (1 - (1 - r[:2]) ** 4))
    np.testing.assert_allclose(weighted, weighted.mean(), rtol=1e-9)


def test_theorem_4_holds_on_the_same_data_where_its_condition_does() -> None:
    g = saturating(4.0)
    assert (
        search_counterexample(
            function_of_probability(g), composed(exponential_of(0.7), g), violation=growth_violation, num_trials=20
        )
        is None
    )


def test_theorems_1_to_3_fail_for_some_optimum_where_data_tie() -> None:
    """With p = (1/2, 1/2), (1, 0) and (0, 1) are equally good under q²: the second is in the wrong order."""
    tied = make_problem([0.5, 0.5], Exponential(2.0))
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert loss(tied, one) == loss(tied, other) == optimal_distribution([0.5, 0.5], Exponential(2.0)).loss
    assert order_violation(other) == 1
    assert one_hot_violation(other) == 1
    assert crossing_violation(torch.tensor([0.5, 0.5]), other) == 0.5


def test_theorem_2_fails_for_ties_under_a_straight_function() -> None:
    """Under F(q) = q all distributions over tied outcomes are equally good, one-hot or not."""
    tied = make_problem([0.5, 0.5], Exponential(1.0))
    for share in (0.0, 0.3, 0.5, 1.0):
        assert loss(tied, torch.tensor([share, 1 - share])) == pytest.approx(-0.5, abs=1e-7)


def test_theorem_3_and_corollary_1_fail_where_f_is_not_convex() -> None:
    """f(g) = −e^{−g/2} is concave: q ∝ p^{2/3} is flatter than the data."""
    found = optimal_distribution([0.6, 0.3, 0.1], lambda g: -torch.exp(-g / 2)).probs
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    np.testing.assert_allclose(found, p ** (2 / 3) / (p ** (2 / 3)).sum(), rtol=1e-12)
    assert crossing_violation(p, found) > 0.05
    assert entropy_violation(p, found) > 0.05
    assert partial_sum_violation(p, found) > 0.05


def test_theorem_1_and_corollary_1_fail_where_lengths_differ() -> None:
    """Not in the paper, which has one g for all: maximum likelihood per sequence wants q ∝ p/T."""
    p, lengths = [0.6, 0.4], [6, 3]
    likelihood = optimal_distribution(p, Identity(), lengths=lengths)
    assert likelihood.probs.tolist() == pytest.approx([3 / 7, 4 / 7])
    assert order_violation(likelihood.probs) == pytest.approx(1 / 7, abs=1e-6)
    sharper = optimal_distribution(p, Exponential(2.49), lengths=lengths)
    assert sharper.entropy > likelihood.entropy + 0.009
    # Below every length, 0.35 beats 0.25 times its length; at k = 2.5 the 0.35 of length 2 has nothing at all.
    probs = optimal_distribution([0.4, 0.35, 0.25], Exponential(2.5), lengths=[2, 2, 10]).probs
    assert probs[1] == 0 < probs[2]


def test_measures_are_zero_at_rounding_and_see_each_kind_of_violation() -> None:
    g, fg = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.7, 0.25, 0.05]).double()
    for measure in (crossing_violation, entropy_violation, partial_sum_violation, growth_violation):
        assert measure(g, fg) == measure(g, g) == measure(g, g + 1e-9) == 0
    assert order_violation(torch.tensor([0.2, 0.5, 0.3])) == pytest.approx(0.3)
    assert order_violation(fg) == 0
    assert crossing_violation(fg, g) == pytest.approx(0.15)  # 0.2 is lost before 0.05 and 0.15 are gained
    assert entropy_violation(fg, g) == pytest.approx(
        sum(q * math.log(q) for q in fg.tolist()) - sum(q * math.log(q) for q in g.tolist()), abs=1e-6
    )
    assert partial_sum_violation(fg, g) == pytest.approx(0.2)
    # Gains of 0.05 and 0.1: the later is larger by 0.05. Behind the first loss nothing counts.
    assert growth_violation(g, torch.tensor([0.55, 0.4, 0.05])) == pytest.approx(0.05)
    assert growth_violation(g, torch.tensor([0.45, 0.2, 0.35])) == 0
