"""The log-variance loss: own or other samples, without a baseline and without a normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class LogVariance(Method):
    r"""Minimise the variance over the samples of an input of :math:`F = \log \pi_\theta - \log \pi_{ref} - r/\beta`.

    It is 0 exactly where :math:`\pi_\theta \propto \pi_{ref} e^{r/\beta}`, whatever the samples were drawn from, as
    long as that has the same support: no ratios, so old samples are as good as new ones. On fresh samples its gradient
    is twice that of :math:`\mathrm{KL}(\pi_\theta \| p)` with a leave-one-out baseline. Lengths do not enter.

    Args:
        beta: β, greater than 0, in reward per nat.

    References:
        Richter and Berner 2024, "Improved sampling via learned diffusions" (#22); for sequences it is ours.
    """

    beta: Annotated[Number, Setting("Reward for each nat from the reference; larger stays nearer.", gt=0)] = 0.1

    declaration = Declaration(
        "log_variance",
        "variance of log π − log π_ref − r/β over the samples of an input: any samples, no normaliser (#22)",
        "Richter and Berner 2024",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, whose mean over a group is its unbiased variance, shape (N,)."""
        samples.check_groups("log_variance")
        gaps = samples.policy - samples.reference - samples.rewards / constant(self.beta)
        sizes = samples.group_sizes
        return (gaps - samples.group_mean(gaps)) ** 2 * sizes / (sizes - 1)
