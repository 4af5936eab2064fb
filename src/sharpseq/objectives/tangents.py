"""Functions that grow exponentially, continued along a tangent where floats would overflow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEEPEST = 30.0
"""Nats after which a token's weight no longer grows: it is then e³⁰, about 1e13, whose square still fits a float32."""


def with_tangents(
    value: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """Return a function of x within [low, high], and its tangents outside.

    Args:
        value: The function.
        slope: Its derivative.
        x: Where it is asked for.
        low: Below this, the function is a straight line.
        high: Above this, too.

    Example:
        >>> with_tangents(torch.exp, torch.exp, torch.tensor([0.0, 3.0]), high=1.0)
        tensor([1.0000, 8.1548])
    """
    if low is None and high is None:
        return value(x)
    within = x.clamp(min=low, max=high)
    return value(within) + slope(within) * torch.where(x == within, 0.0, x - within)
