"""Optimal distributions by code that shares nothing with `sharpseq.theory`: numpy and SciPy, for small problems.

A transform is given here by two numpy functions, f and log f', written out by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]
LOWEST = -200.0


@dataclass(frozen=True)
class NumpyTransform:
    """f, log f' and f at g = −∞."""

    f: Callable[[Floats], Floats]
    log_slope: Callable[[Floats], Floats]
    at_zero: float


@dataclass(frozen=True)
class Reference:
    """A problem in numpy: stakes w·p, lengths, transform."""

    stakes: Floats
    lengths: Floats
    transform: NumpyTransform

    def value(self, q: Floats) -> float:
        """Return Σ a f(log q / T), with the limit at q = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            f = np.where(q > 0, self.transform.f(np.log(np.maximum(q, 1e-300)) / self.lengths), self.transform.at_zero)
        return float((self.stakes * f).sum())

    def log_gain(self, i: int, x: Floats | float) -> Floats:
        """Return the logarithm of the marginal gain of outcome i at log q = x."""
        g = np.asarray(x) / self.lengths[i]
        return np.log(self.stakes[i] / self.lengths[i]) + self.transform.log_slope(g) - x


def by_nested_roots(problem: Reference) -> Floats:
    """Return the optimum of a concave problem: Brent's root finder for each outcome within one for the price."""

    def asked(i: int, price: float) -> float:
        def excess(x: float) -> float:
            return float(problem.log_gain(i, x)) - price

        if excess(-1e-13) >= 0:
            return 1.0
        return float(np.exp(optimize.brentq(excess, LOWEST, -1e-13, xtol=1e-14))) if excess(LOWEST) > 0 else 0.0

    def excess_mass(price: float) -> float:
        return sum(asked(i, price) for i in range(len(problem.stakes))) - 1

    low, high = -60.0, 60.0
    price = optimize.brentq(excess_mass, low, high, xtol=1e-14, rtol=1e-15)
    return np.array([asked(i, price) for i in range(len(problem.stakes))])


def by_slsqp(problem: Reference) -> Floats:
    """Return the optimum as SciPy's general solver of constrained problems finds it, from the stakes."""

    def gradient(q: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            x = np.log(np.maximum(q, 1e-300))
        return -np.exp([float(problem.log_gain(i, x[i])) for i in range(len(q))])

    return np.asarray(
        optimize.minimize(
            lambda q: -problem.value(q),
            problem.stakes / problem.stakes.sum(),
            jac=gradient,
            method="SLSQP",
            bounds=[(1e-12, 1.0)] * len(problem.stakes),
            constraints={"type": "eq", "fun": lambda q: q.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-16, "maxiter": 1000},
        ).x
    )


def by_enumeration(problem: Reference, *, points: int = 4000) -> Floats:
    """Return the best of all stationary points: every choice of a monotone piece of the marginal gain, or 0, for each.

    On a choice of pieces the mass is a function of the price; every change of sign of its excess over 1 on a fine grid
    of prices starts SciPy's root finder on the conditions of stationarity.
    """
    n = len(problem.stakes)
    x = np.concatenate([-np.geomspace(300, 1, points // 3), -np.linspace(1, 0.001, points // 3)[1:]])
    x = np.concatenate([x, -np.geomspace(0.001, 1e-90, points // 3)[1:]])
    pieces: list[list[tuple[Floats, Floats] | None]] = []
    for i in range(n):
        gain = problem.log_gain(i, x)
        turns = np.flatnonzero(np.diff(_directions(gain))) + 1
        edges = [0, *turns.tolist(), len(x) - 1]
        own: list[tuple[Floats, Floats] | None] = [
            (gain[a : b + 1], x[a : b + 1]) for a, b in itertools.pairwise(edges) if b > a
        ]
        pieces.append([*own, None] if problem.transform.at_zero > -np.inf else own)
    candidates = [np.eye(n)[i] for i in range(n)] if problem.transform.at_zero > -np.inf else []
    for choice in itertools.product(*pieces):
        used = [i for i, piece in enumerate(choice) if piece is not None]
        if len(used) < 2:
            continue
        candidates += _stationary_on(problem, used, [piece for piece in choice if piece is not None])
    return max(candidates, key=problem.value)


def _directions(gain: Floats) -> Floats:
    """Return 1 on cells where a marginal gain rises and −1 where it falls; one that is level to rounding goes along."""
    change = np.diff(gain)
    directions = np.where(np.abs(change) > 1e-11, np.sign(change), 0.0)
    clear = np.flatnonzero(directions)
    if len(clear) == 0:
        return np.ones_like(change)
    follows = np.searchsorted(clear, np.arange(len(change)), side="right") - 1
    return np.asarray(directions[clear[np.maximum(follows, 0)]])


def _stationary_on(problem: Reference, used: list[int], pieces: list[tuple[Floats, Floats]]) -> list[Floats]:
    low = max(float(gain.min()) for gain, _ in pieces)
    high = min(float(gain.max()) for gain, _ in pieces)
    if low >= high:
        return []
    prices = np.unique(np.concatenate([np.linspace(low, min(high, low + 20), 4000), np.linspace(low, high, 2000)]))
    xs = []
    for gain, x in pieces:
        order = 1 if gain[-1] > gain[0] else -1
        xs.append(np.interp(prices, gain[::order], x[::order]))
    logs = np.array(xs)
    falling = np.sort(logs, axis=0)
    excess = np.exp(falling[:-1]).sum(axis=0) + np.expm1(falling[-1])
    found = []
    for at in np.flatnonzero(np.diff(np.sign(excess)) != 0):
        q = polished(problem, used, logs[:, at], float(prices[at]))
        if q is not None:
            found.append(q)
    return found


def polished(problem: Reference, used: list[int], x: Floats, price: float) -> Floats | None:
    """Return the stationary distribution near a start by SciPy's `root`, or none.

    The unknowns are log(−x) of each outcome and the price, so that none leaves (0, 1).
    """

    def conditions(unknowns: Floats) -> Floats:
        logs = -np.exp(unknowns[:-1])
        gains = [float(problem.log_gain(i, one)) - unknowns[-1] for i, one in zip(used, logs, strict=True)]
        top = int(np.argmax(logs))
        return np.array([*gains, np.log(np.exp(np.delete(logs, top)).sum() / -np.expm1(logs[top]))])

    with np.errstate(all="ignore"):
        solution = optimize.root(conditions, np.array([*np.log(-x), price]), tol=1e-14)
        if not np.abs(conditions(solution.x)).max() < 1e-9:
            return None
    q = np.zeros(len(problem.stakes))
    q[used] = np.exp(-np.exp(solution.x[:-1]))
    return q
