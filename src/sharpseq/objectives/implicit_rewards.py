r"""What f-divergences make of a log-ratio to a reference model: the parts of the two forms of f-SFT.

Everything is a function of :math:`r = \log u`, :math:`u = \pi(y|x) / \pi_{ref}(y|x)`, and grows no faster than its
tangents beyond 30 nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from sharpseq.errors import nearest
from sharpseq.objectives.tangents import STEEPEST, with_tangents

_Function = Callable[[Tensor], Tensor]
_LOWEST_UTILITY = -0.5
"""Where tangents of a utility begin that is infinite at −log 2 or −1."""


@dataclass(frozen=True)
class ImplicitReward:
    r"""The parts that belong to one convex function f.

    Args:
        reward: :math:`f'(u)` of r.
        reward_slope: Its derivative by r, :math:`u f''(u)`.
        reference_term: :math:`u f'(u) - f(u) = f^*(f'(u))` of r.
        reference_slope: Its derivative by r, :math:`u^2 f''(u)`.
    """

    reward: _Function
    reward_slope: _Function
    reference_term: _Function
    reference_slope: _Function

    def of_target(self, log_ratio: Tensor) -> Tensor:
        """Return f'(u)."""
        return with_tangents(self.reward, self.reward_slope, log_ratio, low=-STEEPEST, high=STEEPEST)

    def weight(self, log_ratio: Tensor) -> Tensor:
        """Return u f''(u), how much more a token weighs than under maximum likelihood."""
        return self.reward_slope(log_ratio.clamp(-STEEPEST, STEEPEST))

    def of_reference(self, log_ratio: Tensor) -> Tensor:
        """Return f*(f'(u))."""
        return with_tangents(self.reference_term, self.reference_slope, log_ratio, high=STEEPEST)


IMPLICIT_REWARDS: Mapping[str, ImplicitReward] = MappingProxyType(
    {
        # f = u log u
        "kl": ImplicitReward(lambda r: r + 1, torch.ones_like, torch.exp, torch.exp),
        # f = (u − 1)²
        "pearson": ImplicitReward(
            lambda r: 2 * torch.expm1(r),
            lambda r: 2 * torch.exp(r),
            lambda r: torch.expm1(2 * r),
            lambda r: 2 * torch.exp(2 * r),
        ),
        # f = (√u − 1)²
        "hellinger": ImplicitReward(
            lambda r: -torch.expm1(-r / 2),
            lambda r: torch.exp(-r / 2) / 2,
            lambda r: torch.expm1(r / 2),
            lambda r: torch.exp(r / 2) / 2,
        ),
        # f = u log u − (u + 1) log((u + 1) / 2)
        "jensen_shannon": ImplicitReward(
            lambda r: math.log(2) - torch.nn.functional.softplus(-r),
            lambda r: torch.sigmoid(-r),
            lambda r: torch.nn.functional.softplus(r) - math.log(2),
            torch.sigmoid,
        ),
    }
)
"""The convex functions f of the form without a pull."""


@dataclass(frozen=True)
class Utility:
    r"""The concave function :math:`\phi(r) = -f^*(-r)` of one convex f.

    Args:
        value: φ.
        slope: φ'.
        lowest: Below this, φ goes on in a straight line; None for nowhere.
    """

    value: _Function
    slope: _Function
    lowest: float | None = None

    def __call__(self, reward: Tensor) -> Tensor:
        """Return φ(r)."""
        return with_tangents(self.value, self.slope, reward, low=self.lowest)

    def weight(self, reward: Tensor) -> Tensor:
        """Return φ'(r)."""
        return self.slope(reward.clamp(min=self.lowest) if self.lowest is not None else reward)


UTILITIES: Mapping[str, Utility] = MappingProxyType(
    {
        "likelihood": Utility(lambda r: r, torch.ones_like),
        "kl": Utility(lambda r: -torch.expm1(-r), lambda r: torch.exp(-r), -STEEPEST),
        "pearson": Utility(lambda r: r - r**2 / 4, lambda r: 1 - r / 2),
        "hellinger": Utility(lambda r: r / (1 + r), lambda r: (1 + r) ** -2, _LOWEST_UTILITY),
        "jensen_shannon": Utility(
            lambda r: torch.log(2 - torch.exp(-r)), lambda r: 1 / (2 * torch.exp(r) - 1), _LOWEST_UTILITY
        ),
    }
)
"""The concave functions φ of the form with a pull; `likelihood` is the identity."""


def check_divergence(name: str, table: Mapping[str, object]) -> None:
    """Check that a table has a divergence.

    Raises:
        ValueError: If not.
    """
    if name not in table:
        raise ValueError(f"`divergence` must not be {name!r}; {nearest(str(name), table)}")
