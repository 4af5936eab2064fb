"""GDC: the smallest change of a model under which features of its outputs have given means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.divergences import KL, FDivergence
from sharpseq.objectives.policy.f_dpg import F_DIVERGENCES, FDpg
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class DistributionalControl(Method):
    r"""Follow the target :math:`p \propto \pi_{ref}(y|x)\, e^{\lambda \cdot \phi(x, y)}` under which φ has given means.

    Before the training λ is found from samples of the reference, see `moment_weights`. Then the divergence between p
    and the policy is minimised as by `FDpg`; the paper's is ``kl``. The samples are those of a proposal, at first the
    reference, which is replaced by the policy whenever that has become nearer to p: when the estimate of
    :math:`\mathrm{KL}(p \| q) - \mathrm{KL}(p \| \pi_\theta) = \frac1Z E_q\big[\frac Pq \log \frac{\pi_\theta}q\big]`
    over ``refresh`` updates is positive. The rewards of the samples are :math:`\lambda \cdot \phi`.

    Args:
        moments: The mean of each feature, by the name of a metric.
        divergence: Which f.
        refresh: Updates between two looks at the proposal; 0 to sample from the policy itself.
        inputs: Inputs from whose samples λ is found.

    References:
        Khalifa et al. 2021, "A distributional approach to controlled text generation" (GDC, #105), algorithm 1; λ
        shared by many inputs is ours.
    """

    moments: Annotated[Mapping[str, float], Setting("Mean of each feature, by the name of a metric.")]
    divergence: Annotated[FDivergence, Setting("Divergence of target and policy.", methods=F_DIVERGENCES)] = field(
        default_factory=KL
    )
    refresh: Annotated[int, Setting("Updates between two looks at the proposal; 0 for none.", ge=0)] = 10
    inputs: Annotated[int, Setting("Inputs from whose samples the weights of features are found.", ge=1)] = 500

    declaration = Declaration(
        "distributional_control",
        "the nearest model to the reference under which features have given means (GDC, #105)",
        "Khalifa et al. 2021",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.moments:
            raise ValueError("`moments` must name at least one feature and its mean")

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, whose rewards are λ·φ, shape (N,)."""
        return FDpg(self.divergence).of_scores(samples, samples.reference + samples.rewards)
