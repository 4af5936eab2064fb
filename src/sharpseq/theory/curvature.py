r"""Where f, as a function of the probability, is concave and where it is convex.

:math:`F(q) = f(\log q/T)` has the slope :math:`F'(q) = f'(g)/(Tq)`, and :math:`\log F'` has the slope
:math:`h(g)/T - 1` in log q, with :math:`h = (\log f')'`. So F is concave where :math:`h(g) \le T` and convex where
:math:`h(g) \ge T`: one function of g decides for all lengths. For the exponential transform h = k, for the power
transform :math:`h = (1-k)/(-g)`, which puts the inflection at :math:`q = e^{-(1-k)}` whatever the length.

For a user's transform, h is computed on a grid of g: its curvature is verified on the grid, not proved.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.problem import log_derivative

Curvature = Literal["concave", "convex", "mixed"]

_TOLERANCE = 1e-7
_ROUNDING = 8 * torch.finfo(torch.float64).eps


def curvature(transform: Transform, *, shortest: float, longest: float) -> Curvature:
    """Return whether F is concave on (0, 1] for all lengths of a range, convex for all, or neither.

    A linear F counts as convex: its optimum is at a corner.

    Args:
        transform: f.
        shortest: Smallest T of the outcomes.
        longest: Largest T of the outcomes.

    Example:
        >>> from sharpseq.objectives import Exponential, Identity, Power
        >>> [curvature(f, shortest=2, longest=4) for f in (Identity(), Exponential(4.0), Exponential(3.0), Power(0.5))]
        ['concave', 'convex', 'mixed', 'mixed']
    """
    g = grid(700.0 / shortest)
    log_slope = log_derivative(transform, g)
    usable = log_slope.isfinite() & (log_slope > -690)
    cells = usable[1:] & usable[:-1]
    h = (log_slope.diff() / g.diff())[cells]
    rounding = (_ROUNDING * (1 + log_slope.abs())[1:] / g.diff())[cells]
    if bool((h >= longest * (1 - _TOLERANCE) - rounding).all()):
        return "convex"
    return "concave" if bool((h <= shortest * (1 + _TOLERANCE) + rounding).all()) else "mixed"


def grid(depth: float) -> Tensor:
    """Return increasing points of [−depth, −1e-15]: evenly spaced in the middle, geometrically near both ends."""
    near = torch.logspace(-15, -0.5, 600, dtype=torch.float64)
    middle = torch.linspace(0.31622776601683794, 30, 1500, dtype=torch.float64)[1:]
    far = torch.logspace(1.4771212547196624, 3.5, 400, dtype=torch.float64)[1:]
    g = torch.cat([near, middle, far])
    return -g[g <= depth].flip(0)
