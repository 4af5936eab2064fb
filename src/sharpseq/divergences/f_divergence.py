r"""f-divergences: :math:`D_f(p \| q) = \sum_v q_v f(p_v/q_v)`, target p, model q, ratio u = target/model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sharpseq.divergences.categorical import Divergence

_LARGEST_LOG_RATIO = 700.0


class Generator(Protocol):
    """A convex f on [0, ∞) with f(1) = f'(1) = 0, and what belongs to it; u is the ratio target/model.

    A multiple of u − 1 changes no divergence, so every f is written with the slope 0 at 1. Then no term of a sum is
    negative, and a mean over samples has its control variate built in.
    """

    at_zero: float
    """f(0), the price of an entry that only the model has; may be +inf."""
    slope_at_zero: float
    """f'(0), the lower end of what f' takes; −inf where f' keeps every ratio above 0."""
    slope_at_infinity: float
    """f'(∞) = lim f(u)/u, the price of an entry that only the target has; may be +inf."""

    def f(self, u: Tensor) -> Tensor:
        """Return the values of f at ratios u ≥ 0."""

    def derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)."""

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u), u > 0."""

    def inverse_derivative(self, t: Tensor) -> Tensor:
        """Return (f')⁻¹(t)."""

    def conjugate(self, t: Tensor) -> Tensor:
        """Return f*(t) = sup over u ≥ 0 of t·u − f(u)."""


@dataclass(frozen=True)
class FDivergence(Divergence):
    r"""An f-divergence, which is also its `Generator`.

    A subclass writes three elementwise formulas in log space, for probabilities above 0: `terms`, q·f(u); `p_slopes`,
    p·f'(u); and `q_slopes`, q·(f(u) − u·f'(u)). The limits at 0 and ∞ say what an entry of probability 0 costs.
    """

    @property
    def at_zero(self) -> float:
        """f(0)."""
        raise NotImplementedError(f"{type(self).__name__} must say f(0)")

    @property
    def slope_at_zero(self) -> float:
        """f'(0), the limit from above."""
        return -math.inf

    @property
    def slope_at_infinity(self) -> float:
        """f'(∞)."""
        raise NotImplementedError(f"{type(self).__name__} must say f'(∞)")

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·f(p/q) for finite log-probabilities."""
        raise NotImplementedError(f"{type(self).__name__} must say its terms")

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p·f'(p/q), the derivative of a term with respect to log p."""
        raise NotImplementedError(f"{type(self).__name__} must say its slopes")

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·(f(u) − u·f'(u)) at u = p/q, the derivative of a term with respect to log q."""
        raise NotImplementedError(f"{type(self).__name__} must say its slopes")

    def rows(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return D of each row; see `Divergence.rows`."""
        return _with_zeros(self.terms, log_p, log_q, no_target=self.at_zero, no_model=self.slope_at_infinity).sum(-1)

    def model_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log q; 0 for an entry whose price is infinite."""
        price = self.at_zero if math.isfinite(self.at_zero) else 0.0
        return _with_zeros(self.q_slopes, log_p, log_q, no_target=price, no_model=0.0)

    def target_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log p; 0 for an entry whose price is infinite."""
        price = self.slope_at_infinity if math.isfinite(self.slope_at_infinity) else 0.0
        return _with_zeros(self.p_slopes, log_p, log_q, no_target=0.0, no_model=price)

    def f(self, u: Tensor) -> Tensor:
        """Return the values of f at ratios u = target/model, at least 0."""
        log_u = u.log()
        return torch.where(u > 0, self.terms(log_u, torch.zeros_like(u)), self.at_zero)

    def derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)."""
        return torch.where(u > 0, self.p_slopes(u.log(), torch.zeros_like(u)) / u, self.slope_at_zero)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u) for u > 0."""
        raise NotImplementedError(f"{type(self).__name__} must say f''")

    def inverse_derivative(self, t: Tensor) -> Tensor:
        """Return the ratio at which f' is t: what maximises t·u − f(u) over u ≥ 0.

        Args:
            t: Any shape. Up to f'(0) the ratio is 0, from f'(∞) on it is +inf.

        Raises:
            ValueError: If f' takes each of its values at more than one ratio, as that of the total variation does.
        """
        inside = t.clamp(self.slope_at_zero, self.slope_at_infinity)
        u = torch.where(t <= self.slope_at_zero, 0.0, self._inverse(inside))
        return torch.where(t >= self.slope_at_infinity, math.inf, u)

    def _inverse(self, t: Tensor) -> Tensor:
        """Solve f'(u) = t by bisection on log u, where there is no closed form."""
        precise = t.detach().double()
        low = torch.full_like(precise, -_LARGEST_LOG_RATIO)
        high = torch.full_like(precise, _LARGEST_LOG_RATIO)
        for _ in range(70):
            middle = (low + high) / 2
            below = self.derivative(middle.exp()) < precise
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).exp().to(t.dtype)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return f*(t) = sup over u ≥ 0 of t·u − f(u): −f(0) up to f'(0), +inf from f'(∞) on."""
        u = self.inverse_derivative(t)
        inside = torch.where(u.isinf(), 1.0, u)
        return torch.where(u.isinf(), math.inf, t * inside - self.f(inside))


def _with_zeros(
    formula: Callable[[Tensor, Tensor], Tensor], log_p: Tensor, log_q: Tensor, *, no_target: float, no_model: float
) -> Tensor:
    """Apply a formula where both probabilities are above 0; elsewhere the price of an entry that one side lacks.

    A formula for q·g(u) is homogeneous, so what is left of it is ``no_target``·q where p = 0, ``no_model``·p where
    q = 0, and 0 where both are.
    """
    if not log_p.numel() or (log_p.amin() > -math.inf and log_q.amin() > -math.inf):
        return formula(log_p, log_q)
    p_is_zero, q_is_zero = log_p.isneginf(), log_q.isneginf()
    either = p_is_zero | q_is_zero
    # At p = q = 1 every formula is 0.
    values = formula(log_p.masked_fill(either, 0), log_q.masked_fill(either, 0))
    for present, log_mass, price in (
        (p_is_zero & ~q_is_zero, log_q, no_target),
        (q_is_zero & ~p_is_zero, log_p, no_model),
    ):
        cost = log_mass.exp() * price if math.isfinite(price) else torch.full_like(log_mass, price)
        values = torch.where(present, cost, values)
    return values
