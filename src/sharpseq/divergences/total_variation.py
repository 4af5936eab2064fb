"""Total variation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.divergences.f_divergence import FDivergence


@dataclass(frozen=True)
class TotalVariation(FDivergence):
    r"""Total variation, :math:`\frac12 \sum_v |p_v - q_v|`, in [0, 1]; f' has no inverse."""

    declaration = Declaration("total_variation", "½ Σ |target − model|, at most 1", "–")
    slopes = (-0.5, 0.5)
    limits = (0.5, 0.5)
    is_invertible = False

    def f(self, u: Tensor) -> Tensor:
        """Return ½|u − 1|."""
        return (u - 1).abs() / 2

    def derivative(self, u: Tensor) -> Tensor:
        """Return ½ sign(u − 1)."""
        return (u - 1).sign() / 2

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(u)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return t in [−½, ½], −½ below, infinite above."""
        return torch.where(t > 0.5, torch.inf, t.clamp(min=-0.5))

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½|p − q|."""
        return (log_p.exp() - log_q.exp()).abs() / 2
