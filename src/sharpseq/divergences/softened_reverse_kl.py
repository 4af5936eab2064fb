"""The reverse KL with the model replaced by the middle between model and target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example
from sharpseq.divergences.f_divergence import F_PROPERTIES, FDivergence


@dataclass(frozen=True)
class SoftenedReverseKL(FDivergence):
    r"""The divergence :math:`2\,\mathrm{KL}(m \| p)`, middle :math:`m = \frac12(p + q)`, target p, model q.

    Its generator is :math:`(1 + u) \log\frac{1 + u}{2u}`. Where the target has little, it is the reverse KL, with a
    price of infinity for what the target excludes; what the model leaves out costs at most :math:`1 - \log 2`. Where
    the model has less than the target, it pulls less than the reverse KL: :math:`u^2 f''(u) = 1/(1 + u)` instead of 1.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> SoftenedReverseKL().exact(target_logits=target, model_logits=model)
        tensor([0.0762])

    References:
        Xu et al. 2025, f-distill; FVGen 2025 (#10), whose own form could not be checked.
    """

    declaration = Declaration(
        "softened_reverse_kl",
        "2 KL(m ‖ p), m = ½ (p + q): the reverse KL, but weaker where the model has too little",
        "Xu et al. 2025, f-distill; FVGen 2025 (#10)",
        examples=(Example((*F_PROPERTIES, "inverse_exists")),),
    )

    at_zero = math.inf
    slope_at_infinity = 1 - math.log(2)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (p + q) log(m/p) + p − q."""
        p, q = log_p.exp(), log_q.exp()
        return (p + q) * _log_middle_over_target(log_p, log_q) + p - q

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p log(m/p) + p − q."""
        p = log_p.exp()
        return p * _log_middle_over_target(log_p, log_q) + p - log_q.exp()

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q log(m/p)."""
        return log_q.exp() * _log_middle_over_target(log_p, log_q)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/(u²(1 + u))."""
        return 1 / (u**2 * (1 + u))


def _log_middle_over_target(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.logaddexp(log_p, log_q) - log_p - math.log(2)
