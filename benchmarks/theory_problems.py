"""Random problems for the solver of `sharpseq.theory`, each with its transform written twice: in torch and in numpy.

A family draws its parameters from a generator; `random_problem` draws data, lengths and weighting to go with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from theory_references import NumpyTransform, Reference

from sharpseq.objectives import Exponential, Identity, Power, Transform
from sharpseq.theory import OptimalDistribution, function_of_probability, optimal_distribution

Pair = tuple[Transform, NumpyTransform]


@dataclass(frozen=True, eq=False)
class RandomProblem:
    """A problem as a user states it, and as the references read it."""

    p_data: NDArray[np.float64]
    lengths: NDArray[np.float64]
    weighting: str
    transform: Transform
    reference: Reference

    def solve(self) -> OptimalDistribution:
        """Return the optimum that `sharpseq.theory` finds."""
        return optimal_distribution(
            torch.from_numpy(self.p_data),
            self.transform,
            lengths=torch.from_numpy(self.lengths),
            weighting="token_mean" if self.weighting == "token_mean" else "sequence_mean",
        )


def random_problem(family: str, seed: int, *, num_outcomes: int, equal_lengths: bool | None = None) -> RandomProblem:
    """Return problem number ``seed`` of a family; lengths are equal in two of five unless it is said."""
    rng = np.random.default_rng([seed, sum(map(ord, family))])
    p_data = np.maximum(rng.dirichlet(np.full(num_outcomes, rng.choice([0.5, 1.0, 5.0]))), 1e-6)
    p_data /= p_data.sum()
    equal = rng.random() < 0.4 if equal_lengths is None else equal_lengths
    lengths = rng.integers(1, 7, num_outcomes).astype(float)
    lengths = np.full(num_outcomes, lengths[0]) if equal else lengths
    weighting = str(rng.choice(["sequence_mean", "token_mean"]))
    transform, by_hand = FAMILIES[family](rng)
    stakes = p_data * lengths if weighting == "token_mean" else p_data
    return RandomProblem(p_data, lengths, weighting, transform, Reference(stakes, lengths, by_hand))


def identity_pair(rng: np.random.Generator) -> Pair:
    """Return f(g) = g."""
    return Identity(), NumpyTransform(lambda g: g, lambda g: 0 * g, -np.inf)


def exponential_pair(rng: np.random.Generator) -> Pair:
    """Return f(g) = e^{kg} with k between 0.1 and 12: below, between and above the lengths."""
    k = float(np.exp(rng.uniform(np.log(0.1), np.log(12.0))))
    return Exponential(k), NumpyTransform(lambda g: np.exp(k * g), lambda g: np.log(k) + k * g, 0.0)


def power_pair(rng: np.random.Generator) -> Pair:
    """Return f(g) = −(−g)^k with k between 0.25 and 0.95."""
    k = float(rng.uniform(0.25, 0.95))
    return Power(k), NumpyTransform(
        lambda g: -((-g) ** k), lambda g: np.log(k) + (k - 1) * np.log(-np.minimum(g, -1e-300)), -np.inf
    )


def sigmoid_pair(rng: np.random.Generator) -> Pair:
    """Return a sigmoid of g: convex below its inflection, concave above."""
    a, b = float(rng.uniform(1, 4)), float(rng.uniform(0.1, 3))

    def slope(g: torch.Tensor) -> torch.Tensor:
        z = a * (g + b)
        return a * torch.sigmoid(z) * torch.sigmoid(-z)

    return WithDerivative(lambda g: torch.sigmoid(a * (g + b)), slope), NumpyTransform(
        lambda g: (1 + np.tanh(a * (g + b) / 2)) / 2,
        lambda g: np.log(a) - np.logaddexp(0, -a * (g + b)) - np.logaddexp(0, a * (g + b)),
        0.0,
    )


def mixture_pair(rng: np.random.Generator) -> Pair:
    """Return maximum likelihood and an exponential in one loss: f(g) = αg + e^{kg}, by autograd."""
    a, k = float(rng.uniform(0.02, 0.5)), float(rng.uniform(1, 6))
    return (lambda g: a * g + torch.exp(k * g)), NumpyTransform(
        lambda g: a * g + np.exp(k * g), lambda g: np.log(a + k * np.exp(k * g)), -np.inf
    )


def shifted_log_pair(rng: np.random.Generator) -> Pair:
    """Return F(q) = log(q + α): concave with a finite slope at 0, so that rare outcomes are left out."""
    a = float(rng.uniform(0.01, 1))
    return function_of_probability(lambda q: torch.log(q + a)), NumpyTransform(
        lambda g: np.log(np.exp(g) + a), lambda g: g - np.log(np.exp(g) + a), float(np.log(a))
    )


def sigmoid_of_probability_pair(rng: np.random.Generator) -> Pair:
    """Return a sigmoid of the probability itself."""
    a, b = float(rng.uniform(2, 20)), float(rng.uniform(0.1, 0.7))
    return function_of_probability(lambda q: torch.sigmoid(a * (q - b))), NumpyTransform(
        lambda g: (1 + np.tanh(a * (np.exp(g) - b) / 2)) / 2,
        lambda g: g + np.log(a) - np.logaddexp(0, -a * (np.exp(g) - b)) - np.logaddexp(0, a * (np.exp(g) - b)),
        float(1 / (1 + np.exp(a * b))),
    )


@dataclass(frozen=True)
class WithDerivative:
    """A user's transform that carries its own derivative, with the digits that autograd loses in its tails."""

    function: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, g: torch.Tensor) -> torch.Tensor:
        """Return f(g)."""
        return self.function(g)

    def derivative(self, g: torch.Tensor) -> torch.Tensor:
        """Return f'(g)."""
        return self.slope(g)


FAMILIES: dict[str, Callable[[np.random.Generator], Pair]] = {
    "identity": identity_pair,
    "exponential": exponential_pair,
    "power": power_pair,
    "sigmoid": sigmoid_pair,
    "mixture": mixture_pair,
    "shifted_log": shifted_log_pair,
    "sigmoid_of_probability": sigmoid_of_probability_pair,
}
