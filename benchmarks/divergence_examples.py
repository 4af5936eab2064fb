"""Targets that are too rich for their models, small enough that every model can be tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from divergence_optima import Box, Example
from torch import Tensor

Mode = tuple[float, float, float]
"""Share, mean and standard deviation of a normal distribution."""

TWO_MODES: tuple[Mode, ...] = ((0.7, -2.0, 0.6), (0.3, 2.0, 0.6))
LINE = torch.linspace(-10, 10, 201, dtype=torch.float64)


def two_modes(modes: Sequence[Mode] = TWO_MODES, *, line: Tensor = LINE) -> Example:
    """Return a mixture of normal distributions on a line, and one normal distribution; parameters are μ and log σ.

    Both are discrete: their densities at the points of the line, scaled to a sum of 1.
    """
    parts = [math.log(share) - math.log(sd) - (line - mean) ** 2 / (2 * sd**2) for share, mean, sd in modes]
    log_p = torch.log_softmax(torch.stack(parts).logsumexp(0), -1)

    def log_q(parameters: Tensor) -> Tensor:
        mean, log_sd = parameters[:, :1], parameters[:, 1:]
        return torch.log_softmax(-((line - mean) ** 2) / 2 * (-2 * log_sd).exp(), -1)

    def intervals(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        from_low, from_high = line - low[:, :1], line - high[:, :1]
        inside = from_low * from_high < 0
        nearest = torch.where(inside, 0.0, torch.minimum(from_low.abs(), from_high.abs()))
        farthest = torch.maximum(from_low.abs(), from_high.abs())
        least = -(farthest**2) / 2 * (-2 * low[:, 1:]).exp()
        most = -(nearest**2) / 2 * (-2 * high[:, 1:]).exp()
        return least - most.logsumexp(-1, keepdim=True), most - least.logsumexp(-1, keepdim=True)

    corners = [torch.tensor(corner, dtype=torch.float64) for corner in ((-5, math.log(0.2)), (5, math.log(6)))]
    return Example("two modes on a line", log_p, log_q, intervals, Box(*corners, (41, 31)))
