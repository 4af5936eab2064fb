"""APO: a KL divergence that depends on how hard an input is, and less patience with long mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting
from sharpseq.objectives.policy.baselines import advantages
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class AsymmetricPolicy(Method):
    r"""GRPO that treats good and bad samples of an input differently.

    With d the share of wrong samples of an input: a sample with a positive advantage has its KL divergence to the
    reference weighted by :math:`1 - e^{-e(1-d)}`, or 1 where no sample is wrong, so that rare successes may go far from
    the reference. A sample with a negative advantage that is longer than the mean length :math:`\bar l` of the right
    ones has its advantage multiplied by :math:`2 - c^{-(l - \bar l)}`, which goes from 1 to 2 as it gets longer; only
    where some sample is right.

    Args:
        kl_weight: β, in reward per nat.
        length_base: c, at least 1.
        right: Reward from which on a sample counts as right.
        clip: ε.
        ratio: Ratios of ``token`` or, for CTC, ``sequence``.

    References:
        Hong et al. 2025, "APO: enhancing reasoning ability of MLLMs via asymmetric policy optimization" (#109).
    """

    kl_weight: Annotated[Number, Setting("Weight of the KL divergence to the reference.", ge=0)] = 0.04
    length_base: Annotated[float, Setting("How fast a long mistake counts more.", ge=1)] = 1.00001
    right: Annotated[float, Setting("Reward from which on a sample is right.")] = 1.0
    clip: Annotated[float, Setting("How far a ratio may move from 1; 0 for any way.", ge=0, lt=1)] = 0.2
    ratio: Annotated[Literal["sequence", "token"], Setting("Ratios of sequences or of tokens.")] = "token"

    declaration = Declaration(
        "asymmetric_policy",
        "GRPO with a KL weight by difficulty, and long mistakes counted more (APO, #109)",
        "Hong et al. 2025",
        maturity="experimental",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(tokens=self.ratio == "token", smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        advantage = advantages(samples, samples.rewards, baseline="group_normalised")
        inner = PolicyGradient(
            "group_normalised",
            ratio=self.ratio,
            per_token=self.ratio == "token",
            clip=self.clip,
            kl_weight=self.kl_weight,
        )
        stretched = advantage * self.length_factors(samples, advantage)
        return inner.of_advantages(samples, stretched, kl_factors=self.kl_factors(samples, advantage))

    def kl_factors(self, samples: OwnSamples, advantage: Tensor) -> Tensor:
        """Return what multiplies β for each sample, shape (N,)."""
        right = samples.group_mean((samples.rewards >= self.right).to(advantage))
        by_difficulty = torch.where(right == 1, 1.0, -torch.expm1(-math.e * right))
        return torch.where(advantage > 0, by_difficulty, 1.0)

    def length_factors(self, samples: OwnSamples, advantage: Tensor) -> Tensor:
        """Return what multiplies the advantage of each sample, shape (N,)."""
        is_right = (samples.rewards >= self.right).to(advantage)
        lengths = samples.num_tokens.to(advantage)
        num_right = samples.group_sum(is_right)
        usual = samples.group_sum(is_right * lengths) / num_right.clamp(min=1)
        excess = (lengths - usual).clamp(min=0)
        counts = (advantage <= 0) & (num_right > 0)
        return torch.where(counts, 2 - self.length_base**-excess, 1.0)
