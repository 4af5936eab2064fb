"""Balanced KL: more of the direction that brings the student's entropy to the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.divergences import KL, ReverseKL
from sharpseq.objectives.distillation.distribution_pair import DistributionPair


@dataclass(frozen=True)
class BalancedKl(Method):
    r"""Forward plus reverse KL, the more useful of the two with a larger weight.

    A student that is surer than its teacher gains entropy fastest under forward KL, and one that is less sure loses it
    fastest under reverse KL. So :math:`a\,\mathrm{KL}(p\|q) + b\,\mathrm{KL}(q\|p)`, with a = ``emphasis`` and b = 1
    where :math:`H(q) < H(p)`, and the other way round elsewhere. The paper's sizes and direction are not known to us;
    these are ours.

    Args:
        emphasis: The larger weight, at least 1.

    References:
        Amara et al. 2023, "BD-KD: balancing the divergences for online knowledge distillation".
    """

    emphasis: Annotated[float, Setting("Weight of the direction that balances the entropies.", ge=1)] = 2.0

    declaration = Declaration(
        "balanced_kl", "forward plus reverse KL, weighted to bring the entropies together (#65)", "Amara et al. 2023"
    )

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,)."""
        with torch.no_grad():
            is_surer = entropy(pair.model) < entropy(pair.target)
        forward = KL().exact(target_logits=pair.target, model_logits=pair.model)
        reverse = ReverseKL().exact(target_logits=pair.target, model_logits=pair.model)
        return forward + reverse + (self.emphasis - 1) * torch.where(is_surer, forward, reverse)


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy of each row in nats, shape (N,)."""
    entropies: Tensor = torch.special.entr(log_probs.exp()).sum(1)
    return entropies
