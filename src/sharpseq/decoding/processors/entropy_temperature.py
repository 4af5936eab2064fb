"""A temperature for each prediction, found by bisection, that gives it a wanted entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.processors.em_inf import at_least_float32
from sharpseq.decoding.processors.processor import DistributionProcessor

_LOWEST, _ROUNDS = 0.01, 30


@dataclass(frozen=True)
class EntropyTemperature(DistributionProcessor):
    r"""Divide the logits by the temperature T in [0.01, 1] whose entropy is :math:`\max(\delta, r H_0)`.

    H_0 is the entropy of the model's distribution. The entropy grows with T, so bisection finds it; the paper's code
    stops within 0.1 nats, this one when T is exact to about 1e-9. A row that is below the floor δ already stays as it
    is, and one whose best tokens tie gets the lowest temperature.

    Args:
        ratio: r, the share of the entropy that is left, in (0, 1].
        entropy_floor: δ in nats, at least 0.

    Example:
        >>> scores = torch.tensor([[2.0, 1.0, 0.0]])
        >>> sharper = EntropyTemperature(ratio=0.5)(torch.empty(1, 0), scores).exp()
        >>> torch.special.entr(scores.softmax(-1)).sum(), torch.special.entr(sharper).sum()
        (tensor(0.8324), tensor(0.4162))

    References:
        Agarwal et al. 2025, "The unreasonable effectiveness of entropy minimization in LLM reasoning", the adaptive
        temperature that EM-INF is compared with (#35).
    """

    ratio: Annotated[float, Setting("Share of the entropy that is left.", gt=0, le=1)] = 0.85
    entropy_floor: Annotated[float, Setting("Least entropy aimed at, in nats.", ge=0)] = 1e-5

    declaration = Declaration(
        "entropy_temperature",
        "the temperature that leaves a share of each prediction's entropy, by bisection (#35)",
        "Agarwal et al. 2025",
        maturity="experimental",
    )
    cost: ClassVar[str] = "no pass; two numbers a logit"
    keeps_best: ClassVar[bool] = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V); see the base."""
        log_probs = at_least_float32(scores).log_softmax(-1)
        entropy = torch.special.entr(log_probs.exp()).sum(-1, keepdim=True)
        target = (self.ratio * entropy).clamp(min=self.entropy_floor)
        low, high = torch.full_like(entropy, _LOWEST), torch.ones_like(entropy)
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            is_above = torch.special.entr((log_probs / middle).softmax(-1)).sum(-1, keepdim=True) > target
            low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
        temperature = torch.where(entropy <= target, 1.0, high)
        return (log_probs / temperature).log_softmax(-1).to(scores.dtype)
