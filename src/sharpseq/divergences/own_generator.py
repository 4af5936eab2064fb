"""An f-divergence of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.divergences.f_divergence import FDivergence


@dataclass(frozen=True)
class OwnGenerator(FDivergence):
    """The f-divergence of any convex function of the ratio target/model; derivatives by autograd.

    Args:
        function: f, elementwise on positive tensors, with f(1) = 0; convex on [1e-4, 1e4], which is checked.
        slope_range: Limits of f' at 0 and at infinity.
        mass_costs: f(0), and the limit of f(u)/u at infinity.

    Raises:
        ValueError: If f(1) is not 0, or f is not convex.

    Example:
        >>> from math import inf
        >>> square = OwnGenerator(lambda u: (u - 1) ** 2, slope_range=(-2.0, inf), mass_costs=(1.0, inf))
        >>> square(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log())
        tensor(0.5625)
    """

    function: Callable[[Tensor], Tensor]
    slope_range: tuple[float, float] = field(kw_only=True)
    mass_costs: tuple[float, float] = field(kw_only=True)

    declaration = Declaration("own_generator", "any convex function of target/model", "Csiszár 1963")

    def __post_init__(self) -> None:
        super().__post_init__()
        one = self.function(torch.ones(1, dtype=torch.float64))
        if not one.abs().max() < 1e-9:
            raise ValueError(f"`function` must be 0 at 1; got {float(one):g}")
        slopes = self.derivative(torch.logspace(-4, 4, 400, dtype=torch.float64))
        if not (slopes.diff() >= -1e-9 * slopes.abs()[1:].clamp(min=1)).all():
            raise ValueError("`function` must be convex; its derivative falls somewhere between 1e-4 and 1e4")

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        return self.slope_range

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        return self.mass_costs

    def f(self, u: Tensor) -> Tensor:
        """Return the generator at ratios u > 0."""
        return self.function(u)

    def derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(leaf).sum(), leaf)
        return slope

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u)."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(leaf).sum(), leaf, create_graph=True)
            if not slope.requires_grad:
                return torch.zeros_like(u)
            (curvature,) = torch.autograd.grad(slope.sum(), leaf)
        return curvature

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q f(p/q), with the limits where one of them is 0."""
        has_both = (log_p > -torch.inf) & (log_q > -torch.inf)
        ratio = (torch.where(has_both, log_p, 0.0) - torch.where(has_both, log_q, 0.0)).exp()
        inside = log_q.exp() * self.function(ratio)
        at_zero, at_infinity = self.limits
        outside = _times(log_q.exp(), at_zero) + _times(log_p.exp(), at_infinity)
        return torch.where(has_both, inside, outside)


def _times(mass: Tensor, cost: float) -> Tensor:
    if math.isinf(cost):
        return torch.where(mass > 0, cost, 0.0)
    return mass * cost
