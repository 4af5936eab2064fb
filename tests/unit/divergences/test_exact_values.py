"""Values of fixed distributions, in both directions, against other formulations of the same numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from sharpseq.declarations import build_method
from sharpseq.divergences import DIVERGENCES

Array = NDArray[np.float64]
P, Q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])


def by_events(p: Array, q: Array) -> float:
    """The largest difference in the probability of any of the sixteen events."""
    events = itertools.product((0, 1), repeat=len(p))
    return max(abs(float(np.dot(event, p - q))) for event in events)


def by_entropies(weight: float) -> Callable[[Array, Array], float]:
    """Jensen–Shannon as the entropy of the mixture less the mixture of the entropies."""
    return lambda p, q: float(entropy(weight * p + (1 - weight) * q) - weight * entropy(p) - (1 - weight) * entropy(q))


def by_powers(alpha: float) -> Callable[[Array, Array], float]:
    return lambda p, q: float((np.sum(p**alpha * q ** (1 - alpha)) - 1) / (alpha * (alpha - 1)))


# name, settings, independent formulation (target p, model q), D(P ‖ Q), D(Q ‖ P).
# The formulations are SciPy's entropy (which is KL where it has two arguments) and NumPy sums that differ from those of
# the package: expanded squares, entropies, events, the Bhattacharyya coefficient, a cosine. The decimals are theirs,
# printed by NumPy 2.4 and SciPy 1.17; a slip in a formulation would have to hit both columns to go unseen.
VALUES = [
    ("kl", {}, lambda p, q: entropy(p, q), 0.718414334, 0.797683958),
    ("reverse_kl", {}, lambda p, q: entropy(q, p), 0.797683958, 0.718414334),
    ("jeffreys", {}, lambda p, q: entropy(p, q) + entropy(q, p), 1.516098292, 1.516098292),
    ("jensen_shannon", {}, by_entropies(0.5), 0.168022992, 0.168022992),
    ("jensen_shannon", {"weight": 0.1}, by_entropies(0.1), 0.062530000, 0.067125805),
    ("skew_kl", {"skew": 0.1}, lambda p, q: entropy(p, 0.1 * p + 0.9 * q), 0.547813521, 0.571958075),
    ("skew_reverse_kl", {"skew": 0.1}, lambda p, q: entropy(q, 0.1 * q + 0.9 * p), 0.571958075, 0.547813521),
    ("softened_reverse_kl", {}, lambda p, q: 2 * entropy((p + q) / 2, p), 0.461637975, 0.382368351),
    ("total_variation", {}, by_events, 0.500000000, 0.500000000),
    ("squared_hellinger", {}, lambda p, q: 1 - np.sum(np.sqrt(p * q)), 0.177890837, 0.177890837),
    ("le_cam", {}, lambda p, q: 1 - np.sum(2 * p * q / (p + q)), 0.304444444, 0.304444444),
    ("pearson_chi2", {}, lambda p, q: np.sum(p**2 / q) - 1, 2.031250000, 2.953333333),
    ("neyman_chi2", {}, lambda p, q: np.sum(q**2 / p) - 1, 2.953333333, 2.031250000),
    ("chi2_mixture", {"weight": 0.25}, lambda p, q: np.sum(p**2 / (0.25 * p + 0.75 * q)) - 1, 0.743714286, 0.814090909),
    ("alpha", {"alpha": 1.5}, by_powers(1.5), 0.812268183, 1.018207459),
    ("alpha", {"alpha": -1.0}, by_powers(-1.0), 1.476666667, 1.015625000),
    ("amari_alpha", {"a": 0.5}, lambda p, q: 4 / 0.75 * (1 - np.sum(p**0.25 * q**0.75)), 0.741431415, 0.704418867),
    ("tsallis", {"q": 1.7}, lambda p, q: np.sum(p * ((p / q) ** 0.7 - 1)) / 0.7, 1.492919675, 1.978831002),
    ("renyi", {"alpha": 0.5}, lambda p, q: -2 * np.log(np.sum(np.sqrt(p * q))), 0.391764183, 0.391764183),
    ("renyi", {"alpha": 3.0}, lambda p, q: np.log(np.dot(p, (p / q) ** 2)) / 2, 1.290611240, 1.645930949),
    (
        "cauchy_schwarz",
        {},
        lambda p, q: -2 * np.log(np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q)),
        1.274107880,
        1.274107880,
    ),
]


@pytest.mark.parametrize(("name", "settings", "formulation", "forward", "backward"), VALUES)
def test_values_in_both_directions(
    name: str,
    settings: dict[str, float],
    formulation: Callable[[Array, Array], float],
    forward: float,
    backward: float,
) -> None:
    divergence = build_method(DIVERGENCES, {"name": name, **settings})
    for p, q, expected in ((P, Q, forward), (Q, P, backward)):
        assert float(formulation(p, q)) == pytest.approx(expected, abs=1e-9)
        value = divergence.exact(target_logits=torch.tensor(p).log(), model_logits=torch.tensor(q).log())
        assert float(value) == pytest.approx(expected, abs=1e-9)


def test_every_divergence_has_a_value() -> None:
    assert {name for name, *_ in VALUES} == set(DIVERGENCES)
