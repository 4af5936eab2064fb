"""Reward maximisation near a reference in the sense of Tsallis, whose optimum drops what is bad altogether."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant
from sharpseq.objectives.policy.own_samples import OwnSamples
from sharpseq.objectives.policy.policy_gradient import PolicyGradient
from sharpseq.objectives.policy.policy_objective import PolicyNeeds


@dataclass(frozen=True)
class TsallisPolicy(Method):
    r"""Maximise :math:`E_{\pi_\theta} r - \tau D_q(\pi_\theta \| \pi_{ref})`, with a Munchausen bonus on request.

    :math:`D_q(\pi\|\mu) = E_\pi[-\ln_q \frac{\mu}{\pi}] = \frac{E_\pi[u^{q-1}] - 1}{q - 1}` with :math:`u = \pi/\mu`
    and :math:`\ln_q x = \frac{x^{1-q} - 1}{1-q}`; q → 1 is KL(π‖μ). The optimum is
    :math:`\mu \big[\frac{(q-1)(r - \nu)}{\tau q}\big]_+^{1/(q-1)}`, and for q > 1 exactly 0 where the reward is too
    low. The gradient is that of a policy gradient with the reward :math:`r - \tau \frac{q u^{q-1} - 1}{q-1}`.

    ``munchausen`` adds ατ times `munchausen_bonus` of the policy that drew the samples: what the policy likes already
    counts as better, which is a divergence to the policy before in disguise.

    Args:
        q: At least 1.
        temperature: τ, greater than 0, in reward per nat.
        munchausen: α, in [0, 1).
        lowest_bonus: The bonus is held at this value, at most 0, in units of τ.

    References:
        Zhu et al. 2023, "Generalized Munchausen reinforcement learning using Tsallis KL divergence" (#41); for whole
        sequences, and the exact bonus, it is ours.
    """

    q: Annotated[float, Setting("Which q-logarithm; 1 is the KL divergence.", ge=1)] = 2.0
    temperature: Annotated[Number, Setting("Weight of the divergence to the reference.", gt=0)] = 0.1
    munchausen: Annotated[float, Setting("Weight of the bonus for what the policy likes already.", ge=0, lt=1)] = 0.0
    lowest_bonus: Annotated[float, Setting("Least value of the bonus in units of τ.", le=0)] = -10.0

    declaration = Declaration(
        "tsallis_policy",
        "expected reward near the reference in Tsallis's sense, with a Munchausen bonus (#41)",
        "Zhu et al. 2023",
    )

    @property
    def needs(self) -> PolicyNeeds:
        """What the loss reads."""
        return PolicyNeeds(smallest_group=2)

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample, shape (N,)."""
        tau = constant(self.temperature)
        price = tsallis_slopes(samples.policy.detach() - samples.reference, q=self.q)
        rewards = samples.rewards - tau * price
        if self.munchausen:
            bonus = munchausen_bonus(samples, q=self.q).clamp(min=self.lowest_bonus)
            rewards = rewards + self.munchausen * tau * bonus
        return PolicyGradient().of_rewards(samples, rewards)


def tsallis_slopes(log_u: Tensor, *, q: float) -> Tensor:
    r"""Return :math:`\frac{q u^{q-1} - 1}{q-1}`, what one more unit of probability costs; 1 + log u for q = 1.

    Example:
        >>> tsallis_slopes(torch.tensor([0.0, 1.0]), q=1.0)
        tensor([1., 2.])
    """
    if q == 1:
        return 1 + log_u
    return 1 + q * torch.expm1((q - 1) * log_u) / (q - 1)


def munchausen_bonus(samples: OwnSamples, *, q: float) -> Tensor:
    r"""Return :math:`(Q - V)/\tau` of the policy that drew the samples, as if it were the optimum for values Q.

    For that policy :math:`Q - \nu = \frac{\tau q}{q-1} u^{q-1}` and V = :math:`E_\pi Q - \tau D_q`, so that
    :math:`(Q - V)/\tau = \frac{q u^{q-1} - 1}{q-1} - E_\pi[u^{q-1}]`, without approximation; for q = 1 that is log u.
    The mean is estimated from the samples of each input.

    Args:
        samples: The samples.
        q: At least 1.
    """
    log_u = samples.behavior - samples.reference
    return tsallis_slopes(log_u, q=q) - samples.group_mean(((q - 1) * log_u).exp())
