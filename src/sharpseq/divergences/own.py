"""An f-divergence made of a convex function of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.divergences.f_divergence import FDivergence

_LARGEST_LOG_RATIO = {torch.float32: 40.0, torch.float64: 300.0}


@dataclass(frozen=True)
class OwnFDivergence(FDivergence):
    r"""The divergence :math:`\sum_v q_v f(p_v/q_v)` of a convex f with f(1) = 0; derivatives are autograd's.

    f is called with ratios u = target/model from e⁻⁴⁰ to e⁴⁰ (±300 in float64); a larger or smaller ratio is priced as
    if f went on in a straight line. That f(1) = 0 and that f is convex is checked on ratios from 10⁻⁶ to 10⁶.

    Args:
        convex: The function f, elementwise, differentiable by autograd, of float tensors above 0.
        limit_at_zero: Its limit f(0), the price of an entry that only the model has.
        limit_over_u: The limit of f(u)/u for u → ∞, the price of an entry that only the target has.

    Raises:
        ValueError: If f(1) is not 0, or f is not finite or not convex on the grid.

    Example:
        >>> chi2 = OwnFDivergence(lambda u: (u - 1) ** 2, limit_at_zero=1.0)
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> chi2.exact(target_logits=target, model_logits=model)
        tensor([0.2500])
    """

    convex: Callable[[Tensor], Tensor]
    limit_at_zero: float = math.inf
    limit_over_u: float = math.inf

    declaration = Declaration("own", "Σ q f(p/q) with a convex f of your own", "Csiszár 1967")

    def __post_init__(self) -> None:
        grid = torch.logspace(-6, 6, 601, dtype=torch.float64)
        values = self.convex(grid)
        at_one = float(self.convex(torch.ones(1, dtype=torch.float64))[0])
        if not abs(at_one) < 1e-9:
            raise ValueError(f"`convex` must be 0 at 1; got {at_one:g} (subtract it: no divergence changes)")
        if not bool(values.isfinite().all()):
            raise ValueError("`convex` must be finite for every ratio above 0; got inf or nan between 1e-6 and 1e6")
        slopes = values.diff() / grid.diff()
        # What rounding does to a slope between two neighbours of the grid.
        noise = 1e-13 * (values[:-1].abs() + values[1:].abs()) / grid.diff()
        falls = (slopes.diff() < -(noise[:-1] + noise[1:])).nonzero()
        if len(falls):
            raise ValueError(f"`convex` is not convex: its slope falls near the ratio {grid[falls[0, 0] + 1]:.3g}")
        super().__post_init__()

    @cached_property
    def _slope_at_one(self) -> float:
        one = torch.ones(1, dtype=torch.float64)
        return float(_derivative(self.convex, one)[0])

    @property
    def at_zero(self) -> float:
        """Return f(0), f with the slope 0 at 1."""
        return self.limit_at_zero + self._slope_at_one

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞), f with the slope 0 at 1."""
        return self.limit_over_u - self._slope_at_one

    @property
    def slope_at_zero(self) -> float:
        """Return f'(0), read off at the smallest ratio; −inf where f still gets steeper there."""
        small = torch.tensor([1e-100, 1e-50], dtype=torch.float64)
        near, far = self._centred_derivative(small).tolist()
        return near if abs(near - far) <= 1e-6 * max(1.0, abs(far)) else -math.inf

    def _centred(self, u: Tensor) -> Tensor:
        return self.convex(u) - self._slope_at_one * (u - 1)

    def _centred_derivative(self, u: Tensor) -> Tensor:
        return _derivative(self.convex, u) - self._slope_at_one

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·f(p/q), as p·f(u)/u where the target is larger."""
        log_u, u = _ratios(log_p, log_q)
        value = self._centred(u)
        return torch.where(log_u > 0, value / u * log_p.exp(), value * log_q.exp())

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p·f'(u)."""
        return self._centred_derivative(_ratios(log_p, log_q)[1]) * log_p.exp()

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·(f(u) − u·f'(u))."""
        log_u, u = _ratios(log_p, log_q)
        value, slope = self._centred(u), self._centred_derivative(u)
        return torch.where(log_u > 0, (value / u - slope) * log_p.exp(), (value - u * slope) * log_q.exp())

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u)."""
        return _derivative(lambda ratio: _derivative(self.convex, ratio, create_graph=True), u)


def _ratios(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    largest = _LARGEST_LOG_RATIO[log_p.dtype]
    log_u = (log_p - log_q).clamp(-largest, largest)
    return log_u, log_u.exp()


def _derivative(function: Callable[[Tensor], Tensor], u: Tensor, *, create_graph: bool = False) -> Tensor:
    with torch.enable_grad():
        leaf = u if create_graph else u.detach().requires_grad_()
        values = function(leaf)
        if not values.requires_grad:
            return torch.zeros_like(u)
        (slope,) = torch.autograd.grad(values.sum(), leaf, create_graph=create_graph)
    return slope if create_graph else slope.detach()
