"""AlphaNet's adaptive α-divergence: at each position the larger of two, one of them clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.objectives.distillation.distribution_pair import DistributionPair


@dataclass(frozen=True)
class AlphaSwitch(Method):
    r"""The larger of the α-divergences at α = −1 and α = 1, so that neither over- nor underestimates escape.

    With :math:`t = p/q` of teacher p and student q, α = 1 is :math:`\mathrm{KL}(p\|q)`, and α = −1 is
    :math:`\frac12 \sum_v q_v [\min(1/t_v, c) - 1]`, half of :math:`\chi^2(q\|p)` with a clipped ratio. Which of them is
    larger is decided by their values; the gradient is that of :math:`-\sum_v [q \rho]_{\text{fixed}} \log q_v` with
    :math:`\rho = t f'(t) - f(t)`, the gradient of an f-divergence, in which the clipped ratio stands too.

    Args:
        clip: c, the largest ratio q/p that is counted; greater than 0.

    References:
        Wang et al. 2021, "AlphaNet: improved training of supernets with alpha-divergence".
    """

    clip: Annotated[float, Setting("Largest ratio of student to teacher that is counted.", gt=0)] = 5.0

    declaration = Declaration(
        "alpha_switch", "the larger of two α-divergences at each position, one clipped (#53)", "Wang et al. 2021"
    )

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,); its gradient is that of the method, see above."""
        with torch.no_grad():
            target, model = pair.target.exp(), pair.model.exp()
            # 0/0 counts as ratio 0: a token that neither writes.
            ratio = torch.where(model > 0, (pair.model - pair.target).exp(), 0.0).clamp(max=self.clip)
            low = (model * (ratio - 1)).sum(1) / 2
            high = torch.xlogy(target, target).sum(1) - _product(target, pair.model).sum(1)
            # ρ of α = −1 is −ratio; of α = 1 it is p/q, so q·ρ is p.
            slope = torch.where((low > high)[:, None], -model * ratio, target)
            value = torch.maximum(low, high)
        surrogate = -_product(slope, pair.model).sum(1)
        return value + surrogate - surrogate.detach()


def _product(weights: Tensor, log_probs: Tensor) -> Tensor:
    """Return weights · log p, 0 where the weight is."""
    return torch.where(weights == 0, 0.0, weights * torch.where(weights == 0, 0.0, log_probs))
