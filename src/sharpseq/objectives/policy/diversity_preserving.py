"""DPH-RL: clipped policy gradient where the reference fails, rehearsal of its solutions where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class DiversityPreserving(Method):
    r"""Learn where the reference fails, and keep what it can do where it succeeds.

    Inputs that the reference solves at least ``solved`` of the time get samples of the reference, the right ones of
    which cost only :math:`\eta f(u)`, :math:`u = \pi_\theta / \pi_{ref}`: a divergence that the model must not forget
    them. All others get own samples, the clipped policy gradient of `PolicyGradient` with normalised groups, and no
    divergence at all. With log-probabilities of tokens u is that of each token and f(u) a mean over them; with those
    of whole samples (CTC) it is that of the sample.

    f is :math:`u - \log u - 1` (``kl``), :math:`u \log u - (u + 1) \log \frac{u+1}2` (``jensen_shannon``), or
    :math:`\frac{u^{1-\alpha} - (1-\alpha) u - \alpha}{\alpha(\alpha - 1)}` (``alpha``).

    Args:
        divergence: Which f.
        alpha: α of ``alpha``, in (0, 1).
        rehearsal_weight: η, at least 0.
        solved: Share of right samples of the reference from which on an input counts as solved.
        right: Reward from which on a sample counts as right.
        clip: ε of the policy gradient.
        ratio: Ratios of ``token`` or, for CTC, ``sequence``.

    References:
        Li et al. 2025, "The choice of divergence" (DPH-RL, #90); that of whole samples is ours.
    """

    divergence: Annotated[
        Literal["kl", "jensen_shannon", "alpha"], Setting("Divergence that keeps what the reference can do.")
    ] = "kl"
    alpha: Annotated[float, Setting("α of `alpha`.", gt=0, lt=1)] = 0.5
    rehearsal_weight: Annotated[Number, Setting("Weight of that divergence.", ge=0)] = 0.1
    solved: Annotated[float, Setting("Share of right samples from which on an input is solved.", gt=0, le=1)] = 0.8
    right: Annotated[float, Setting("Reward from which on a sample is right.")] = 1.0
    clip: Annotated[float, Setting("How far a ratio may move from 1; 0 for any way.", ge=0, lt=1)] = 0.2
    ratio: Annotated[Literal["sequence", "token"], Setting("Ratios of sequences or of tokens.")] = "token"

    declaration = Declaration(
        "diversity_preserving",
        "clipped policy gradient on inputs that the reference fails on, rehearsal on the others (DPH-RL, #90)",
        "Li et al. 2025",
        maturity="experimental",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(tokens=self.ratio == "token", smallest_group=2, reference_samples=True)

    def is_solved(self, samples: OwnSamples) -> Tensor:
        """Return True for samples, all of the reference, of inputs that it solves, shape (N,)."""
        return samples.group_mean((samples.rewards >= self.right).to(samples.rewards)) >= self.solved

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        learning = PolicyGradient("group_normalised", ratio=self.ratio, per_token=self.ratio == "token", clip=self.clip)
        losses = learning(samples)
        if samples.from_reference is None or not bool(samples.from_reference.any()):
            return losses
        if samples.tokens is None:
            kept = self.terms(samples.policy - samples.reference)
        else:
            kept = samples.tokens.mean(self.terms(samples.tokens.policy - samples.tokens.reference))
        is_right = samples.rewards >= self.right
        rehearsal = constant(self.rehearsal_weight) * torch.where(is_right, kept, 0.0)
        return torch.where(samples.from_reference, rehearsal, losses)

    def terms(self, log_u: Tensor) -> Tensor:
        """Return f(u) of log u, any shape."""
        u = log_u.exp()
        if self.divergence == "kl":
            return torch.expm1(log_u) - log_u
        if self.divergence == "jensen_shannon":
            return u * log_u - (u + 1) * ((u + 1) / 2).log()
        a = self.alpha
        return (((1 - a) * log_u).exp() - (1 - a) * u - a) / (a * (a - 1))
