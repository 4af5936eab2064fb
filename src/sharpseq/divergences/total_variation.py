"""The total variation distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example
from sharpseq.divergences.f_divergence import F_PROPERTIES, FDivergence


@dataclass(frozen=True)
class TotalVariation(FDivergence):
    r"""The distance :math:`\frac12 \sum_v |p_v - q_v|`: the most by which the probability of any event differs.

    A metric, at most 1. It has a corner at p = q, where the gradient taken is that of neither side, 0. f' has two
    values only, so no (f')⁻¹ exists.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> TotalVariation().exact(target_logits=target, model_logits=model)
        tensor([0.2500])
    """

    declaration = Declaration(
        "total_variation",
        "½ Σ |p − q|, at most 1",
        "Wen et al. 2023, f-distill",
        examples=(Example((*F_PROPERTIES, "symmetric", "bounded_by_one")),),
    )

    at_zero = 0.5
    slope_at_zero = -0.5
    slope_at_infinity = 0.5

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½|p − q|."""
        return 0.5 * (log_p.exp() - log_q.exp()).abs()

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½p sign(p − q)."""
        return 0.5 * log_p.exp() * (log_p - log_q).sign()

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½q sign(q − p)."""
        return 0.5 * log_q.exp() * (log_q - log_p).sign()

    def derivative(self, u: Tensor) -> Tensor:
        """Return ½ sign(u − 1), without rounding."""
        return 0.5 * (u - 1).sign()

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 0, the value everywhere but at 1."""
        return torch.zeros_like(u)

    def inverse_derivative(self, t: Tensor) -> Tensor:
        """Refuse: f' is constant on either side of 1.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the total variation has no (f')⁻¹: f' is −½ below 1 and ½ above; take another divergence")

    def conjugate(self, t: Tensor) -> Tensor:
        """Return f*(t): t in [−½, ½], −½ below, +inf above."""
        return torch.where(t > 0.5, math.inf, t.clamp(min=-0.5))
