"""f-DPG: any f-divergence between a model and a target that can be evaluated, from the model's own samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.divergences import DIVERGENCES, FDivergence, JensenShannon
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_objective import PolicyNeeds

F_DIVERGENCES: Mapping[str, type[Method]] = {
    name: divergence for name, divergence in DIVERGENCES.items() if issubclass(divergence, FDivergence)
}
"""The divergences that have a generator f."""


@dataclass(frozen=True)
class FDpg(Method):
    r"""Minimise an f-divergence between a target p and the policy, :math:`D_f(p \| \pi_\theta)`.

    The target is known up to its normaliser, :math:`p = P/Z`: ``reward`` is :math:`P = \pi_{ref} e^{r/\beta}`, the
    optimum of reward maximisation with a KL penalty; ``constraint`` is :math:`P = \pi_{ref} 1[r > 0]`, the reference
    where it meets a constraint. With :math:`u = p/\pi_\theta`, the gradient is
    :math:`E_{y \sim \pi_\theta}[(f(u) - u f'(u)) \nabla \log \pi_\theta]`, whatever f is, less a baseline, the mean of
    the other samples of an input. Samples of an earlier policy are weighted by :math:`\pi_\theta/\mu`. At the optimum
    u is 1 for every sample, so the gradient of smooth f has no variance left. Z is estimated from the samples of each
    input, which has a bias that falls with their number, unless `OwnSamples.log_normalizers` says it.

    ``kl`` is the distributional policy gradient (DPG), which covers the target; ``reverse_kl`` with ``target: reward``
    is reward maximisation with a KL penalty; the paper finds ``jensen_shannon`` a good balance. A divergence that is
    infinite where the target is 0, such as ``reverse_kl``, cannot have ``target: constraint``.

    Args:
        divergence: Which f, in the convention of `sharpseq.divergences`: target first.
        target: ``reward`` or ``constraint``.
        beta: β, greater than 0, in reward per nat.

    Raises:
        ValueError: If the divergence cannot be infinite where the target is 0 and it is.

    References:
        Go et al. 2023, "Aligning language models with preferences through f-divergence minimization" (#1), theorem 1;
        Khalifa et al. 2021 for the targets (#105).
    """

    divergence: Annotated[FDivergence, Setting("Divergence of target and policy.", methods=F_DIVERGENCES)] = field(
        default_factory=JensenShannon
    )
    target: Annotated[
        Literal["reward", "constraint"], Setting("Reference times exp(reward/β), or where the reward is positive.")
    ] = "reward"
    beta: Annotated[Number, Setting("Reward for each nat from the reference; larger stays nearer.", gt=0)] = 0.1

    declaration = Declaration(
        "f_dpg",
        "an f-divergence to the reference times exp(r/β), or to its part that meets a constraint (#1)",
        "Go et al. 2023",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, whose value estimates the divergence, shape (N,)."""
        if self.target == "reward":
            log_score = samples.reference + samples.rewards / constant(self.beta)
        else:
            log_score = samples.reference.masked_fill(samples.rewards <= 0, -torch.inf)
        return self.of_scores(samples, log_score)

    def of_scores(self, samples: OwnSamples, log_score: Tensor) -> Tensor:
        """Return the loss of each sample for another target, shape (N,).

        Args:
            samples: The samples.
            log_score: log P of each in nats, −inf where the target is 0, shape (N,).
        """
        samples.check_groups("f_dpg")
        if samples.log_normalizers is None:
            log_normalizers = log_normalizers_of_groups(samples, log_score)
        else:
            log_normalizers = samples.log_normalizers
        policy = samples.policy.detach()
        # An input none of whose samples has a probability under the target says nothing.
        is_known = log_normalizers > -torch.inf
        log_u = torch.where(is_known, log_score.detach() - log_normalizers - policy, 0.0)
        if not math.isfinite(self.divergence.at_zero) and bool((log_u == -torch.inf).any()):
            raise ValueError(
                f"`divergence` must not be {self.divergence.declaration.name}, which is infinite where the target is "
                "0; take kl or jensen_shannon, or a target without zeros"
            )
        zeros = torch.zeros_like(log_u)
        terms = self.divergence.entry_terms(log_u, zeros)
        slopes = self.divergence.model_slopes(log_u, zeros)
        weights = samples.log_ratio.exp()
        centred = slopes - samples.mean_of_others(weights * slopes)
        values = weights * (terms + centred * (samples.policy - policy))
        return torch.where(is_known, values, 0.0 * samples.policy)


def log_normalizers_of_groups(samples: OwnSamples, log_score: Tensor) -> Tensor:
    r"""Estimate log Z of each sample's input, :math:`\log \frac1K \sum_j P(y_j)/\mu(y_j)`, shape (N,).

    Args:
        samples: The samples.
        log_score: log P of each, shape (N,).

    Raises:
        ValueError: If no sample at all has a probability above 0 under the target.

    References:
        Khalifa et al. 2021, section 2.3.
    """
    log_terms = log_score.detach() - samples.behavior
    if bool((log_terms == -torch.inf).all()):
        raise ValueError(
            "no sample meets the constraint, so nothing is known about the target; loosen it, draw more samples, or "
            "start from a model that meets it now and then"
        )
    return samples.group_log_mean_exp(log_terms)
