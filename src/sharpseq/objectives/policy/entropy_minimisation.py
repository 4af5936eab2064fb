"""Entropy minimisation: a model becomes surer of what it believes already, without labels or rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


def entropies_of(samples: OwnSamples) -> Tensor:
    """Return the mean entropy over the positions of each sample, shape (N,).

    Raises:
        ValueError: If the samples have none.
    """
    if samples.entropies is None:
        raise ValueError("`samples` must have `entropies` for entropy minimisation")
    return samples.entropies


@dataclass(frozen=True)
class EntropyFineTuning(Method):
    r"""Minimise the entropy of the predictions along own samples, :math:`\frac1T \sum_t H(\pi_\theta(\cdot|y_{<t}))`.

    No gradient goes through the drawing of samples. Of a CTC model it is the mean over frames. No reward is read.

    References:
        Agarwal et al. 2025, "The unreasonable effectiveness of entropy minimization in LLM reasoning", EM-FT (#35).
    """

    declaration = Declaration(
        "entropy_fine_tuning",
        "entropy of the predictions along own samples, no reward (EM-FT, #35)",
        "Agarwal et al. 2025",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(entropies=True, rewards=False)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        return entropies_of(samples)


@dataclass(frozen=True)
class EntropyReward(Method):
    r"""Policy gradient whose reward is the model's own certainty, with a leave-one-out baseline.

    The reward is :math:`\log \pi_\theta(y)` (``sequence``) or :math:`-\sum_t H(\pi_\theta(\cdot|y_{<t}))` (``token``),
    without gradient, less :math:`\beta \log(\pi_\theta/\pi_{ref})`. No other reward is read.

    Args:
        of: ``sequence`` or ``token``.
        kl_weight: β, at least 0.

    References:
        Agarwal et al. 2025, "The unreasonable effectiveness of entropy minimization in LLM reasoning", EM-RL (#35).
    """

    of: Annotated[Literal["sequence", "token"], Setting("Certainty of the whole sample, or of each prediction.")] = (
        "sequence"
    )
    kl_weight: Annotated[Number, Setting("Weight of the KL divergence to the reference.", ge=0)] = 0.0

    declaration = Declaration(
        "entropy_reward", "policy gradient rewarded by its own certainty (EM-RL, #35)", "Agarwal et al. 2025"
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(entropies=self.of == "token", rewards=False, smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        policy = samples.policy.detach()
        certainty = policy if self.of == "sequence" else -entropies_of(samples).detach() * samples.num_tokens
        return PolicyGradient().of_rewards(samples, certainty - constant(self.kl_weight) * (policy - samples.reference))
