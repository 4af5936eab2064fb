"""Increasing functions f that reshape a length-normalised log-probability g: the choice that makes a loss sharp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]
"""Any elementwise, differentiable, increasing function of g; it may carry its own ``derivative(g)``."""


@dataclass(frozen=True)
class Identity:
    """f(g) = g, which is maximum likelihood."""

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g)."""
        return g

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g)."""
        return torch.ones_like(g)


@dataclass(frozen=True)
class Exponential:
    """f(g) = exp(k·g), or (exp(k·g) − 1)/k when normalised; made by `exponential`."""

    k: float
    normalized: bool = False

    def __post_init__(self) -> None:
        lowest = "at least 0" if self.normalized else "greater than 0"
        if not (self.k >= 0 if self.normalized else self.k > 0) or self.k == float("inf"):
            raise ValueError(f"`k` must be finite and {lowest}; got {self.k}")

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g)."""
        if not self.normalized:
            return torch.exp(self.k * g)
        # expm1 keeps full precision as k → 0, where the transform tends to the identity.
        return torch.expm1(self.k * g) / self.k if self.k > 0 else g

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g)."""
        return torch.exp(self.k * g) * (1.0 if self.normalized else self.k)


@dataclass(frozen=True)
class Power:
    """f(g) = −(−g)^k; made by `power`."""

    k: float

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1:
            raise ValueError(f"`k` must be in (0, 1]; got {self.k}")

    def _positive(self, g: Tensor) -> Tensor:
        # The derivative is infinite at g = 0 for k < 1: a sequence with p = 1 has nothing left to learn, and one ulp
        # below it the weight is finite.
        return (-g).clamp(min=torch.finfo(g.dtype).tiny ** 0.5) if self.k < 1 else -g

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g)."""
        return -(self._positive(g) ** self.k)

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g)."""
        return self.k * self._positive(g) ** (self.k - 1)


def identity() -> Identity:
    """Return the transform of maximum likelihood, :math:`f(g) = g`.

    Example:
        >>> identity()(torch.tensor([-1.5]))
        tensor([-1.5000])
    """
    return Identity()


def exponential(k: float, *, normalized: bool = False) -> Exponential:
    r"""Return the transform :math:`f(g) = e^{kg}`, so that :math:`f(\log p / T) = p^{k/T}`.

    Args:
        k: Sharpness, greater than 0; larger is more convex. 1 suits autoregressive models, 1 to 8 one-pass models.
        normalized: Use :math:`(e^{kg} - 1)/k` instead. Its gradient does not vanish with k and it tends to maximum
            likelihood as k → 0, so that k = 0 is allowed and k can be annealed from 0.

    Returns:
        A callable on g of any shape, with the derivative :math:`f'(g)`.

    Raises:
        ValueError: If ``k`` is not finite, negative, or 0 without ``normalized``.

    Example:
        >>> exponential(2.0)(torch.tensor([0.0]))
        tensor([1.])
        >>> exponential(0.0, normalized=True)(torch.tensor([-3.0]))
        tensor([-3.])

    References:
        Shao et al. 2023, "Beyond MLE", equations 12 and 13.
    """
    return Exponential(k, normalized)


def power(k: float) -> Power:
    r"""Return the transform :math:`f(g) = -(-g)^k`.

    Args:
        k: Exponent in (0, 1]; 1 is maximum likelihood, smaller is more convex. The paper found it weaker than
            `exponential`, and unstable as k → 0.

    Returns:
        A callable on g (at most 0) of any shape, with the derivative :math:`f'(g) = k(-g)^{k-1}`.

    Raises:
        ValueError: If ``k`` is outside (0, 1].

    Example:
        >>> power(0.5)(torch.tensor([-4.0]))
        tensor([-2.])

    References:
        Shao et al. 2023, "Beyond MLE", equations 12 and 13, appendix E.
    """
    return Power(k)


def derivative(transform: Transform, g: Tensor) -> Tensor:
    """Return f'(g), detached, shape of ``g``: by the transform's own formula, or by autograd where it has none.

    Example:
        >>> derivative(torch.tanh, torch.tensor([0.0]))
        tensor([1.])
    """
    own = getattr(transform, "derivative", None)
    if own is not None:
        formula: Tensor = own(g.detach())
        return formula
    with torch.enable_grad():
        leaf = g.detach().requires_grad_()
        (slope,) = torch.autograd.grad(transform(leaf).sum(), leaf)
    return slope


TRANSFORMS: Mapping[str, Callable[..., Transform]] = MappingProxyType(
    {"identity": identity, "exponential": exponential, "power": power}
)
