"""The best model of a small family under a divergence: every parameter tried, the best refined, the rest excluded.

An `Example` is a target over finitely many outcomes and a family of models with a few parameters in a box. `optimum`
tries a grid of the whole box, refines every local minimum of the grid, and keeps the best. `bound` then proves how much
better a model anywhere in the box could be. A box of parameters confines the probability of every outcome to an
interval. The terms of an f-divergence are at least 0, convex in the model's probability and 0 where both agree, so the
sum of their least values in the intervals is below every divergence in the box. Boxes whose bound is too high are
dropped, and the others split, until none is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from sharpseq.divergences import Alpha, CauchySchwarz, Divergence, FDivergence, Renyi
from sharpseq.theory import find_switches

_CHUNK = 2**21
_MOST_BOXES = 200_000
_MOST_REFINED = 12
_FLAT = 1e-6
"""A gradient below this is that of a minimum; at a kink or at an edge of the box it is larger."""
_JUMP = 0.1
"""Total variation between two optima that are called different."""


@dataclass(frozen=True, eq=False)
class Box:
    """All parameters of a family.

    Args:
        low: Lower corner, shape (K,).
        high: Upper corner.
        num_points: Points of the grid along each parameter.
    """

    low: Tensor
    high: Tensor
    num_points: tuple[int, ...]

    def grid(self) -> Tensor:
        """Return all points of the grid, shape (N, K)."""
        axes = [
            torch.linspace(float(low), float(high), points, dtype=torch.float64)
            for low, high, points in zip(self.low, self.high, self.num_points, strict=True)
        ]
        return torch.cartesian_prod(*axes).view(-1, len(axes))


@dataclass(frozen=True, eq=False)
class Example:
    """A target, and models with a few parameters.

    Args:
        name: What it is.
        log_p: Log-probabilities of the target, shape (G,).
        log_q: Log-probabilities of models with parameters of shape (N, K), shape (N, G).
        intervals: For boxes of parameters, their lower and upper corners of shape (N, K), bounds of ``log_q``, both of
            shape (N, G); None if none are known that are of use.
        box: All parameters.
    """

    name: str
    log_p: Tensor
    log_q: Callable[[Tensor], Tensor]
    intervals: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    box: Box

    def values(self, divergence: Divergence, parameters: Tensor) -> Tensor:
        """Return the divergences of models, shape (N,)."""
        log_q = self.log_q(parameters)
        return divergence.rows(self.log_p.expand_as(log_q), log_q)


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best model of a family.

    Args:
        parameters: Shape (K,).
        value: The divergence.
        local: The divergence at the other local minima that were found, rising.
    """

    parameters: Tensor
    value: float
    local: tuple[float, ...]


def optimum(example: Example, divergence: Divergence) -> Optimum:
    """Return the best model under a divergence."""
    rows = max(1, _CHUNK // len(example.log_p))
    return search(lambda parameters: example.values(divergence, parameters), example.box, rows=rows)


def search(values: Callable[[Tensor], Tensor], box: Box, *, rows: int) -> Optimum:
    """Return the least of all refined local minima of a grid.

    Args:
        values: What is minimised, of parameters (N, K), shape (N,), differentiable.
        box: All parameters.
        rows: How many parameters are tried at once.
    """
    points = box.grid()
    with torch.no_grad():
        tried = torch.cat([values(part) for part in points.split(rows)])
    starts = points[_local_minima(tried.view(box.num_points))]
    found = sorted((_refined(values, box, start) for start in starts), key=lambda one: one[0])
    value, parameters = found[0]
    different = [found[0]]
    for one in found[1:]:
        if all(float(((one[1] - known) / (box.high - box.low)).abs().max()) > 1e-3 for _, known in different):
            different.append(one)
    return Optimum(parameters, value, tuple(value for value, _ in different[1:]))


def _local_minima(values: Tensor) -> Tensor:
    """Return the places of the lowest points that have no lower neighbour along any axis, lowest first."""
    lowest = torch.ones_like(values, dtype=torch.bool)
    for axis in range(values.ndim):
        if values.shape[axis] > 1:
            falls = values.diff(dim=axis) < 0
            edge = torch.zeros_like(falls.narrow(axis, 0, 1))
            lowest &= ~torch.cat([falls, edge], axis) & ~torch.cat([edge, values.diff(dim=axis) > 0], axis)
    places = (lowest & values.isfinite()).flatten().nonzero()[:, 0]
    return places[values.flatten()[places].argsort()][:_MOST_REFINED]


def _refined(values: Callable[[Tensor], Tensor], box: Box, start: Tensor) -> tuple[float, Tensor]:
    """Follow the gradient to the local minimum; where it does not vanish there, look around without it."""

    def value_and_gradient(x: Any) -> tuple[float, Any]:
        parameters = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = values(parameters[None])[0]
        (gradient,) = torch.autograd.grad(value, parameters)
        return value.item(), gradient.numpy()

    def value_only(x: Any) -> float:
        with torch.no_grad():
            return values(torch.from_numpy(np.array(x, dtype=np.float64))[None]).item()

    bounds = list(zip(box.low.tolist(), box.high.tolist(), strict=True))
    options = {"ftol": 1e-15, "gtol": 1e-9}
    smooth = minimize(value_and_gradient, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    best = min((start.numpy(), smooth.x), key=value_only)
    if np.abs(smooth.jac).max() > _FLAT:
        options = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 200 * len(best)}
        closer = minimize(value_only, best, method="Nelder-Mead", bounds=bounds, options=options)
        best = min((best, closer.x), key=value_only)
    return value_only(best), torch.from_numpy(np.array(best))


def bound(example: Example, divergence: Divergence, value: float, *, tolerance: float) -> float:
    """Return by how much a model anywhere in the box could be better than ``value``.

    Args:
        example: Target and models.
        divergence: What is minimised.
        value: The best that is known.
        tolerance: What to prove; the result is larger where that takes too many boxes.

    Raises:
        ValueError: If the example has no intervals.
    """
    if example.intervals is None:
        raise ValueError(f"{example.name}: no intervals are known")
    box, rows = example.box, max(1, _CHUNK // len(example.log_p))
    low, high = box.low[None], box.high[None]
    while True:
        parts = zip(low.split(rows), high.split(rows), strict=True)
        bounds = torch.cat([_bounds(divergence, example.log_p, *example.intervals(*part)) for part in parts])
        is_open = bounds < value - tolerance
        if not bool(is_open.any()):
            return tolerance
        if int(is_open.sum()) > _MOST_BOXES:
            return value - float(bounds.min())
        low, high = low[is_open], high[is_open]
        # Split where the box is widest, as a share of all there is.
        axis = ((high - low) / (box.high - box.low)).argmax(-1, keepdim=True)
        middle = ((low + high) / 2).gather(-1, axis)
        low, high = torch.cat([low, low.scatter(-1, axis, middle)]), torch.cat([high.scatter(-1, axis, middle), high])


def _bounds(divergence: Divergence, log_p: Tensor, log_low: Tensor, log_high: Tensor) -> Tensor:
    """Return a number for each box that no divergence in it is below."""
    log_p = log_p.expand_as(log_low)
    if isinstance(divergence, CauchySchwarz):
        # Σ q² at its least, Σ pq at its most.
        own = torch.logsumexp(2 * log_p, -1) + torch.logsumexp(2 * log_low, -1)
        return own - 2 * torch.logsumexp(log_p + log_high, -1)
    nearest = torch.minimum(torch.maximum(log_p, log_low), log_high)
    if isinstance(divergence, Renyi):
        alpha = float(divergence.alpha)  # type: ignore[arg-type]
        inner = alpha * Alpha(alpha).entry_terms(log_p, nearest).sum(-1)
        # A sum beyond the largest float is at least that, and no power sum is below 0.
        grown = ((alpha - 1) * inner).clamp(min=-1, max=torch.finfo(inner.dtype).max)
        return inner if alpha == 1 else torch.log1p(grown) / (alpha - 1)
    if not isinstance(divergence, FDivergence):
        raise TypeError(f"no bound is known for {type(divergence).__name__}")
    return divergence.entry_terms(log_p, nearest).sum(-1)


@dataclass(frozen=True, eq=False)
class Jump:
    """Where the optimum of a family of divergences leaves one model for another.

    Args:
        at: Middle of the last interval, which contains the jump.
        error: Half of its width.
        before: The optimum just below.
        after: The optimum just above.
    """

    at: float
    error: float
    before: Optimum
    after: Optimum


def course(
    example: Example, family: Callable[[float], Divergence], values: Sequence[float], *, tolerance: float = 1e-4
) -> tuple[list[Optimum], list[Jump]]:
    """Return the optimum at every value of a family's parameter, and where it jumps.

    Where the optima at two neighbouring values differ, the interval is halved until the change is inside twice the
    tolerance. If the optima at its ends still differ as much, it is a jump; else the way between them is steep.
    """
    cache: dict[float, Optimum] = {}

    def at(value: float) -> Optimum:
        if value not in cache:
            cache[value] = optimum(example, family(value))
        return cache[value]

    def distance(one: Optimum, other: Optimum) -> float:
        return total_variation(*(example.log_q(each.parameters[None])[0] for each in (one, other)))

    found = []
    for low, high in itertools.pairwise(values):
        left, right = at(low), at(high)
        if distance(left, right) <= _JUMP:
            continue

        def is_nearer_to_the_right(value: float, left: Optimum = left, right: Optimum = right) -> bool:
            return distance(at(value), right) < distance(at(value), left)

        for switch in find_switches(is_nearer_to_the_right, low=low, high=high, num_points=2, tolerance=tolerance):
            before, after = at(switch.k - switch.error), at(switch.k + switch.error)
            if distance(before, after) > _JUMP:
                found.append(Jump(switch.k, switch.error, before, after))
    return [at(value) for value in values], found


def total_variation(log_p: Tensor, log_q: Tensor) -> float:
    """Return ½ Σ |p − q|."""
    return float((log_p.exp() - log_q.exp()).abs().sum() / 2)


def outside(log_p: Tensor, log_q: Tensor, *, mass: float = 0.99) -> float:
    """Return the mass of p outside the smallest set that has ``mass`` of q."""
    q, order = log_q.exp().sort(descending=True)
    # The set ends with the outcome that completes the mass.
    inside = q.cumsum(0) - q < mass
    return max(0.0, 1 - float(log_p.exp()[order][inside].sum()))
