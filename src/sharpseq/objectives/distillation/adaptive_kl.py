"""Adaptive KL: forward KL where the heads of the distributions differ, reverse KL where the tails do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting
from sharpseq.divergences import KL, ReverseKL
from sharpseq.objectives.distillation.distribution_pair import DistributionPair


@dataclass(frozen=True)
class AdaptiveKl(Method):
    r"""A mean of forward and reverse KL whose weights are the gaps of head and tail at each position.

    The head is the teacher's most probable tokens as far as their mass is at most μ, at least one token.
    :math:`\frac{g_h}{g_h + g_t} \mathrm{KL}(p\|q) + \frac{g_t}{g_h + g_t} \mathrm{KL}(q\|p)`, in which g is the sum of
    :math:`|p - q|` over head and tail, without gradient. Where the distributions are equal, both weights are ½.

    Args:
        head_mass: μ, in [0, 1].

    References:
        Wu et al. 2024, "Rethinking Kullback-Leibler divergence in knowledge distillation for large language models".
    """

    head_mass: Annotated[Number, Setting("Largest mass of the teacher's head.", ge=0, le=1)] = 0.5

    declaration = Declaration(
        "adaptive_kl", "forward and reverse KL, weighted by where the distributions differ (#46)", "Wu et al. 2024"
    )

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,)."""
        with torch.no_grad():
            falling, order = pair.target.exp().sort(dim=1, descending=True)
            in_head = torch.zeros_like(order, dtype=torch.bool)
            in_head.scatter_(1, order, falling.cumsum(1) <= self.head_mass)
            in_head.scatter_(1, order[:, :1], True)
            gap = (pair.target.exp() - pair.model.exp()).abs()
            head, total = (gap * in_head).sum(1), gap.sum(1)
            share = torch.where(total > 0, head / total.clamp(min=torch.finfo(total.dtype).tiny), 0.5)
        forward = KL().exact(target_logits=pair.target, model_logits=pair.model)
        reverse = ReverseKL().exact(target_logits=pair.target, model_logits=pair.model)
        return share * forward + (1 - share) * reverse
