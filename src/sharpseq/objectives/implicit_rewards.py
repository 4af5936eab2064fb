r"""What an f-divergence makes of a log-ratio to a reference model: implicit rewards, and the concave forms of f-SFT.

Everything is a function of :math:`r = \log u`, :math:`u = \pi(y|x) / \pi_{ref}(y|x)`, and goes on in a straight line
where a float would overflow. The divergences are those of `sharpseq.divergences`, with the reference as target and the
policy as model, as everywhere in the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from sharpseq.divergences import FDivergence, JensenShannon, NeymanChi2, ReverseKL, SquaredHellinger
from sharpseq.errors import nearest
from sharpseq.objectives.tangents import STEEPEST, with_tangents

_Function = Callable[[Tensor], Tensor]
_LOWEST_UTILITY = -0.5
"""Where tangents of a utility begin that is infinite at −log 2 or −1."""
_LARGEST_SLOPE = 2.1 * math.exp(2 * STEEPEST)
_LIMITS = (STEEPEST, 20.0, 15.0, 10.0, 5.0, 2.0)
_VANISHING = ((-250.0, -290.0), (-5e5, -1e6))
"""Log-ratios of answers that the policy as good as excludes, within what float64 holds and far beyond it."""


@dataclass(frozen=True)
class ImplicitReward:
    r"""The reward that one f-divergence reads off a log-ratio, and its conjugate.

    :math:`D(\pi_{ref} \| \pi) = \sum \pi_{ref}\, g(\pi/\pi_{ref})`, g convex with g(1) = g'(1) = 0. The policy that
    maximises a reward R less :math:`\beta D` has :math:`R = \beta g'(u) + \mathrm{const}`.

    Args:
        divergence: D, with the reference as target and the policy as model.
        scale: Multiplies it.
    """

    divergence: FDivergence
    scale: float = 1.0

    def of_target(self, log_ratio: Tensor) -> Tensor:
        """Return g'(u)."""
        return self._continued(self._reward, self._reward_slope, log_ratio, low=self._range[0])

    def weight(self, log_ratio: Tensor) -> Tensor:
        """Return u g''(u), the slope of the reward; in an SFT, how much more a token weighs than in MLE."""
        low, high = self._range
        return self._reward_slope(log_ratio.double().clamp(low, high)).to(log_ratio.dtype)

    def of_reference(self, log_ratio: Tensor) -> Tensor:
        """Return g*(g'(u)) = u g'(u) − g(u), which is finite at u = 0."""
        return self._continued(self._conjugate, self.reference_slope, log_ratio)

    def reference_slope(self, log_ratio: Tensor) -> Tensor:
        """Return u² g''(u), the slope of `of_reference`."""
        ratio = (-log_ratio).exp()
        return self.scale * ratio * self.divergence.second_derivative(ratio)

    @property
    def is_finite_at_zero(self) -> bool:
        """Whether g'(0) is finite, so that the best policy may give an outcome probability 0."""
        for ratios in _VANISHING:
            nearer, far = self._reward(torch.tensor(ratios, dtype=torch.float64)).tolist()
            if math.isfinite(far) and not far < nearer - 1e-9:
                return True
        return False

    def _reward(self, log_ratio: Tensor) -> Tensor:
        # With v = 1/u and D = Σ π f(v), g(u) = u f(1/u) and g'(u) = f(v) − v f'(v).
        return self.scale * self.divergence.q_slopes(-log_ratio, torch.zeros_like(log_ratio))

    def _reward_slope(self, log_ratio: Tensor) -> Tensor:
        ratio = (-log_ratio).exp()
        return self.scale * ratio**2 * self.divergence.second_derivative(ratio)

    def _conjugate(self, log_ratio: Tensor) -> Tensor:
        return -self.scale * self.divergence.p_slopes(torch.zeros_like(log_ratio), log_ratio)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The log-ratios between which nothing is larger than a float32 can hold."""
        return -self._farthest(-1.0), self._farthest(1.0)

    def _farthest(self, sign: float) -> float:
        for limit in _LIMITS:
            at = torch.tensor(sign * limit, dtype=torch.float64)
            if max(float(self._reward_slope(at)), float(self.reference_slope(at))) <= _LARGEST_SLOPE:
                return limit
        return _LIMITS[-1]

    def _continued(self, value: _Function, slope: _Function, log_ratio: Tensor, *, low: float | None = None) -> Tensor:
        # In float64, and at the two ends alone: a factor may be too large for a float32 where the product is not.
        below, above = slope(torch.tensor(self._range, dtype=torch.float64)).tolist()

        def end_slopes(within: Tensor) -> Tensor:
            return torch.where(within < 0, within.new_tensor(below), within.new_tensor(above))

        return with_tangents(value, end_slopes, log_ratio, low=low, high=self._range[1])


IMPLICIT_REWARDS: Mapping[str, ImplicitReward] = MappingProxyType(
    {
        "kl": ImplicitReward(ReverseKL()),  # g = u log u − u + 1
        "pearson": ImplicitReward(NeymanChi2()),  # g = (u − 1)²: Pearson's χ² of the policy to the reference
        "hellinger": ImplicitReward(SquaredHellinger(), 2.0),  # g = (√u − 1)²
        "jensen_shannon": ImplicitReward(JensenShannon(), 2.0),  # g = u log u − (u + 1) log((u + 1) / 2)
    }
)
"""The convex functions g of the form of f-SFT without a pull."""


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
