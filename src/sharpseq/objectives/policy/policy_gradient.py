"""The policy gradient: REINFORCE with a baseline, and with clipped ratios of tokens GRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives.policy.baselines import Baseline, advantages
from sharpseq.objectives.policy.own_samples import OwnSamples, TokenLogProbs
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class PolicyGradient(Method):
    r"""Maximise the expected reward, :math:`\max_\theta E_{y \sim \pi_\theta} r(y)`.

    The loss of a sample with advantage A is :math:`-\rho A`, in which :math:`\rho = \pi_\theta(y) / \mu(y)` is 1 for
    fresh samples, so that its gradient is :math:`-A \nabla \log \pi_\theta(y)`, and corrects for samples of an earlier
    policy. ``clip`` stops a sample from moving its ratio out of :math:`[1 - \epsilon, 1 + \epsilon]` further; without
    it ratios above ``max_ratio`` count as that. ``ratio: token`` takes the ratio of each token and the mean over
    tokens: with ``baseline: group_normalised`` and ``per_token`` that is GRPO. ``kl_weight`` adds
    :math:`\beta\,\rho\,(u - \log u - 1)` with :math:`u = \pi_{ref}/\pi_\theta`, of each token or of the sequence.

    Args:
        baseline: What a reward is compared with; see `advantages`.
        ratio: ``sequence``, whose gradient is unbiased, or ``token``, which CTC does not have.
        per_token: Whether the loss of a sequence is divided by its length, which makes long samples count less.
        clip: ε; 0 for no clipping.
        max_ratio: Largest ratio that counts where there is no clipping.
        kl_weight: β, in reward per nat.

    Example:
        >>> log_probs = torch.tensor([-1.0, -2.0], requires_grad=True)
        >>> fixed, one_group = log_probs.detach(), torch.zeros(2, dtype=torch.long)
        >>> samples = OwnSamples(log_probs, fixed, fixed, torch.tensor([1.0, 0.0]), one_group, torch.ones(2))
        >>> PolicyGradient()(samples).sum().backward()
        >>> log_probs.grad
        tensor([-1.,  1.])

    References:
        Williams 1992; Kool et al. 2019; Schulman et al. 2017 (clipping); Shao et al. 2024, DeepSeekMath (GRPO).
    """

    baseline: Annotated[Baseline, Setting("What a reward is compared with.")] = "leave_one_out"
    ratio: Annotated[Literal["sequence", "token"], Setting("Ratios to the earlier policy: of sequences or tokens.")] = (
        "sequence"
    )
    per_token: Annotated[bool, Setting("Whether the loss of a sequence is divided by its length.")] = False
    clip: Annotated[float, Setting("How far a ratio may move from 1; 0 for any way.", ge=0, lt=1)] = 0.0
    max_ratio: Annotated[float, Setting("Largest ratio that counts where there is no clipping.", ge=1)] = 10.0
    kl_weight: Annotated[Number, Setting("Weight of the KL divergence to the reference.", ge=0)] = 0.0

    declaration = Declaration(
        "policy_gradient",
        "expected reward of own samples: REINFORCE with a baseline, or GRPO",
        "Williams 1992; Shao et al. 2024",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(tokens=self.ratio == "token", smallest_group=1 if self.baseline == "none" else 2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        return self.of_rewards(samples, samples.rewards)

    def of_rewards(self, samples: OwnSamples, rewards: Tensor) -> Tensor:
        """Return the loss of each sample for other rewards (N,), shape (N,)."""
        return self.of_advantages(samples, advantages(samples, rewards, baseline=self.baseline))

    def of_advantages(self, samples: OwnSamples, advantage: Tensor, *, kl_factors: Tensor | None = None) -> Tensor:
        """Return the loss of each sample for other advantages, shape (N,).

        Args:
            samples: The samples.
            advantage: Of each, shape (N,).
            kl_factors: Multiply β for each sample, shape (N,).
        """
        beta: Tensor | float = constant(self.kl_weight)
        if self.ratio == "sequence":
            losses = self._surrogate(samples.policy - samples.behavior, advantage)
            if self.kl_weight:
                factors = beta if kl_factors is None else beta * kl_factors
                losses = losses + factors * kl_terms(samples.policy, samples.behavior, samples.reference)
            return losses / samples.num_tokens.clamp(min=1) if self.per_token else losses
        tokens = token_log_probs(samples)
        losses = self._surrogate(tokens.policy - tokens.behavior, advantage[:, None])
        if self.kl_weight:
            factors = beta if kl_factors is None else beta * kl_factors[:, None]
            losses = losses + factors * kl_terms(tokens.policy, tokens.behavior, tokens.reference)
        return tokens.mean(losses) if self.per_token else tokens.mean(losses) * tokens.mask.sum(1)

    def _surrogate(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        if self.clip:
            return -torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        # The ratio is held at its limit, the gradient of log π goes on.
        return -ratio * (self.max_ratio / ratio.detach()).clamp(max=1) * advantage


def kl_terms(policy: Tensor, behavior: Tensor, reference: Tensor) -> Tensor:
    r"""Return :math:`\rho\,(u - \log u - 1)` with :math:`u = \pi_{ref}/\pi_\theta` and :math:`\rho = \pi_\theta/\mu`.

    Its mean is KL(π‖π_ref), and with ρ, which is 1 for fresh samples but has a gradient, so is its gradient. Without it
    the gradient would be that of KL(π_ref‖π), as it was in GRPO at first.

    References:
        Schulman 2020, "Approximating KL divergence" (k3); DeepSeek-AI 2025, DeepSeek-V3.2 (ρ).
    """
    log_u = reference - policy
    return (policy - behavior).exp() * (torch.expm1(log_u) - log_u)


def token_log_probs(samples: OwnSamples) -> TokenLogProbs:
    """Return the log-probabilities of single tokens.

    Raises:
        ValueError: If the samples have none.
    """
    if samples.tokens is None:
        raise ValueError(
            "the objective reads the log-probability of each token, and these samples (of a CTC model?) have only that "
            "of the whole; choose `ratio: sequence`, or a model that predicts one token at a position"
        )
    return samples.tokens
