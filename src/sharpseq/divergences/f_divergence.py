r"""f-divergences: :math:`D_f(p \| q) = \sum_v q_v f(p_v/q_v)`, target p, model q, ratio u = target/model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from sharpseq.divergences.categorical import PROPERTIES, Divergence
from sharpseq.divergences.samples import Side, terms_of_samples

_LARGEST_LOG_RATIO = 700.0

F_PROPERTIES = (
    *PROPERTIES,
    "generator_is_consistent",
    "limits_are_prices_of_zeros",
    "conjugate_is_dual",
    "convex_in_both",
    "top_k_is_a_lower_bound",
    "samples_have_its_mean_and_gradient",
)
"""What every f-divergence keeps besides."""


class Generator(Protocol):
    """A convex f on [0, ∞) with f(1) = f'(1) = 0, and what belongs to it; u is the ratio target/model.

    A multiple of u − 1 changes no divergence, so every f is written with the slope 0 at 1. Then no term of a sum is
    negative, and a mean over samples has its control variate built in.
    """

    @property
    def at_zero(self) -> float:
        """Return f(0), the price of an entry that only the model has; may be +inf."""

    @property
    def slope_at_zero(self) -> float:
        """Return f'(0), the lower end of what f' takes; −inf where (f')⁻¹ is always above 0."""

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞) = lim f(u)/u, the price of an entry that only the target has; may be +inf."""

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
    @abstractmethod
    def at_zero(self) -> float:
        """f(0)."""

    @property
    def slope_at_zero(self) -> float:
        """f'(0), the limit from above."""
        return -math.inf

    @property
    @abstractmethod
    def slope_at_infinity(self) -> float:
        """f'(∞)."""

    @abstractmethod
    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·f(p/q) for finite log-probabilities."""

    @abstractmethod
    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p·f'(p/q), the derivative of a term with respect to log p."""

    @abstractmethod
    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·(f(u) − u·f'(u)) at u = p/q, the derivative of a term with respect to log q."""

    def rows(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return D of each row; see `Divergence.rows`."""
        return self.entry_terms(log_p, log_q).sum(-1)

    def entry_terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·f(p/q) of each entry, also where a probability is 0."""
        return _with_zeros(self.terms, log_p, log_q, no_target=self.at_zero, no_model=self.slope_at_infinity)

    def model_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log q; 0 for an entry whose price is infinite."""
        price = self.at_zero if math.isfinite(self.at_zero) else 0.0
        return _with_zeros(self.q_slopes, log_p, log_q, no_target=price, no_model=0.0)

    def target_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log p; 0 for an entry whose price is infinite."""
        price = self.slope_at_infinity if math.isfinite(self.slope_at_infinity) else 0.0
        return _with_zeros(self.p_slopes, log_p, log_q, no_target=0.0, no_model=price)

    def from_samples(
        self,
        *,
        target_log_probs: Tensor,
        model_log_probs: Tensor,
        sampled_from: Side,
        control: float | Literal["fitted"] = 0.0,
    ) -> Tensor:
        r"""Return a term for each sample, whose mean estimates D(target ‖ model).

        With u = target/model a term is f(u) for samples of the model, f(u)/u for samples of the target. No bias, except
        that mass of the other side where the sampled side has none is never seen. The gradient to ``model_log_probs``
        has no bias either; for samples of the model it is that of the score function,
        :math:`(f(u) - u f'(u)) \nabla \log q`, which differentiating the value would not give.

        The variance is finite if that of the terms is. From the model, where f grows like u, that needs a finite
        :math:`E_q[u^2] = 1 + \chi^2`, also because of the control variate; where f grows like :math:`u^\alpha`, a
        finite :math:`E_q[u^{2\alpha}]`. From the target it needs :math:`E_p[u^{-2}]` in the same way.
        `effective_sample_size` shows when that is in doubt.

        Args:
            target_log_probs: Log-probabilities of the samples under the target, any shape; no gradient.
            model_log_probs: The same under the model, same shape.
            sampled_from: Which of the two the samples are from.
            control: Multiple of the control variate, :math:`u - 1` (from the target :math:`1 - 1/u`), that is added;
                its mean is 0. At 0 every term is at least 0, and 0 where u = 1: for `ReverseKL` and samples of the
                model it is −log u + u − 1, known as k3. At −1 it is −log u, k1, whose variance needs no E[u²].
                "fitted" takes the multiple with the least variance among these samples, a bias of order 1/n.

        Returns:
            Same shape, in nats.

        Raises:
            ValueError: If shapes differ, or a sample has no mass where it is said to come from.

        Example:
            >>> log_p, log_q = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -1.0])
            >>> given = {"target_log_probs": log_p, "model_log_probs": log_q, "sampled_from": "model"}
            >>> from sharpseq.divergences import ReverseKL
            >>> ReverseKL().from_samples(**given), ReverseKL().from_samples(**given, control=-1.0)
            (tensor([0.0000, 0.3679]), tensor([0., 1.]))

        References:
            Schulman 2020, "Approximating KL divergence" (k1, k3); Go et al. 2023, f-DPG (#1), for the gradient.
        """
        return terms_of_samples(
            self,
            target_log_probs=target_log_probs,
            model_log_probs=model_log_probs,
            sampled_from=sampled_from,
            control=control,
        )

    def f(self, u: Tensor) -> Tensor:
        """Return the values of f at ratios u = target/model, at least 0."""
        log_u = u.log()
        return torch.where(u > 0, self.terms(log_u, torch.zeros_like(u)), self.at_zero)

    def derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)."""
        return torch.where(u > 0, self.p_slopes(u.log(), torch.zeros_like(u)) / u, self.slope_at_zero)

    @abstractmethod
    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u) for u > 0."""

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
