r"""F for one length as a table, and its concave envelopes on intervals of probability.

F is tabulated at probabilities from e^−690 to 1. In a cell where its slope falls, the intersection of the tangents at
both ends is added to the table, so that the envelope of the table lies above F. This holds unless F has an inflection
inside a cell that its slopes at the ends do not show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.curvature import grid
from sharpseq.theory.problem import log_derivative, value_at_zero, values

Floats = NDArray[np.float64]

_RESOLVED = 1e-9
_LOWEST_SLOPE = 1e-290
_MOST_HULLS = 500
_CLOSING_IN = 45


@dataclass(frozen=True, eq=False)
class Hull:
    """The vertices of a concave envelope (positions in the table, probabilities, values) and its edges."""

    position: NDArray[np.int64]
    q: Floats
    value: Floats
    slope: Floats
    widths: Floats
    heights: Floats

    def vertex(self, prices: Floats) -> NDArray[np.int64]:
        """Return the vertex that is worth most at each price."""
        return len(self.slope) - np.searchsorted(self.slope[::-1], prices, side="right")


@dataclass(eq=False)
class Curve:
    """F for one length at even positions, intersections of tangents at odd ones."""

    position: NDArray[np.int64]
    q: Floats
    value: Floats
    hulls: dict[tuple[int, int], Hull] = field(default_factory=dict)

    def hull(self, low: int, high: int) -> Hull:
        """Return the concave envelope between two even positions."""
        if (low, high) not in self.hulls:
            if len(self.hulls) >= _MOST_HULLS:
                self.hulls.clear()
            first, last = np.searchsorted(self.position, [low, high])
            inside = slice(int(first), int(last) + 1)
            self.hulls[low, high] = upper_hull(self.position[inside], self.q[inside], self.value[inside])
        return self.hulls[low, high]


def tabulate(transform: Transform, length: float, touching: Tensor | None = None) -> Curve:
    """Return F for a length at the probabilities of the grid, and the intersections of its tangents.

    Args:
        transform: f.
        length: T.
        touching: Log-probabilities to add to the grid: there the envelope is F itself, not a tangent above it.
    """
    x = torch.cat([grid(690.0), torch.zeros(1, dtype=torch.float64)])
    if touching is not None:
        x = torch.cat([x, touching[(touching > float(x[0])) & (touching < 0)]]).unique()
    joined = torch.zeros(len(x), dtype=torch.bool) if touching is None else torch.isin(x, touching)
    log_slope = log_derivative(transform, x / length) - x - float(np.log(length))
    # Below the first usable slope f' underflows; just below 1 several points are the same float64.
    usable = (log_slope > -700) & (torch.arange(len(x)) >= int((log_slope > -700).nonzero()[0]))
    usable &= torch.cat([x.exp().diff() > 0, torch.ones(1, dtype=torch.bool)])
    x, slope, joined = x[usable], log_slope[usable].exp().numpy(), joined[usable]
    q, value = x.exp().numpy(), values(transform, x / length).numpy()
    bottom = value_at_zero(transform)
    if bottom > -np.inf:
        q, value, slope = np.append(0.0, q), np.append(bottom, value), np.append(np.inf, slope)
        joined = torch.cat([torch.zeros(1, dtype=torch.bool), joined])
    kept = _resolved(value, joined.tolist())
    q, value, slope = q[kept], value[kept], slope[kept]
    position = 2 * np.arange(len(q))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        crossing = (np.diff(value) + slope[:-1] * q[:-1] - slope[1:] * q[1:]) / (slope[:-1] - slope[1:])
        height = value[:-1] + slope[:-1] * (crossing - q[:-1])
    real = (slope[:-1] > slope[1:]) & np.isfinite(height) & (crossing > q[:-1]) & (crossing < q[1:])
    position = np.concatenate([position, position[:-1][real] + 1])
    order = np.argsort(position)
    q, value = np.concatenate([q, crossing[real]]), np.concatenate([value, height[real]])
    return Curve(position[order], q[order], value[order])


def surrounded(x: Tensor, *, most: int) -> Tensor:
    """Return log-probabilities with points around them, ever closer, about ``most`` points in total, shape (m,).

    Near an optimum the value falls off with the square of the distance. If the cells of the table shrink with the
    distance too, its error falls off as well, and branching can tell the optimum from its neighbours.
    """
    if len(x) == 0:
        return x
    if len(x) > most:
        x = x[:: -(-len(x) // most)]
    steps = min(_CLOSING_IN, most // (2 * len(x)))
    distance = torch.logspace(-8, -0.4, steps, dtype=torch.float64)[:, None] if steps > 1 else x.new_empty(0, 1)
    around: Tensor = torch.cat([x, (x * (1 - distance)).flatten(), (x * (1 + distance)).flatten()]).unique()
    return around


def _resolved(value: Floats, joined: list[bool]) -> list[int]:
    """Return which points to keep so that differences of F are not mostly rounding error.

    The first and the last are kept, and of two points that are too close, the one that was added to the grid.
    """
    kept = [0]
    for i, here in enumerate(value.tolist()):
        if here - value[kept[-1]] > _RESOLVED * abs(here):
            kept.append(i)
        elif joined[i] and not joined[kept[-1]] and len(kept) > 1:
            kept[-1] = i
    if kept[-1] != len(value) - 1:
        close = len(kept) > 1 and value[-1] - value[kept[-1]] <= _RESOLVED * abs(value[-1])
        kept[-1 if close else len(kept) :] = [len(value) - 1]
    return kept


def upper_hull(position: NDArray[np.int64], q: Floats, value: Floats) -> Hull:
    """Return the upper convex hull of points with increasing q.

    A point on or below the chord of its neighbours is never a vertex, so all such points are removed at once.
    """
    kept = np.arange(len(q))
    while True:
        widths, heights = np.diff(q[kept]), np.diff(value[kept])
        slope = heights / widths
        vertex = np.concatenate([[True], slope[:-1] > slope[1:], [True]]) if len(kept) > 1 else np.array([True])
        if vertex.all():
            # A horizontal edge gets the lowest price.
            return Hull(position[kept], q[kept], value[kept], np.maximum(slope, _LOWEST_SLOPE), widths, heights)
        kept = kept[vertex]
