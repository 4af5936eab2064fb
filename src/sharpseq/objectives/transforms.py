"""Increasing functions f that reshape a length-normalised log-probability g: the choice that makes a loss sharp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Number, Setting, method_table

Transform = Callable[[Tensor], Tensor]
"""Any elementwise, differentiable, increasing function of g; it may carry its own ``derivative(g)``."""

_PROPERTIES = ("rises", "derivative_is_the_slope", "finite_at_the_edges", "keeps_dtype")


@dataclass(frozen=True)
class Identity(Method):
    """The transform of maximum likelihood, :math:`f(g) = g`.

    Example:
        >>> Identity()(torch.tensor([-1.5]))
        tensor([-1.5000])
    """

    declaration = Declaration("identity", "f(g) = g: maximum likelihood", "–", examples=(Example(_PROPERTIES),))

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g)."""
        return g

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g)."""
        return torch.ones_like(g)


@dataclass(frozen=True)
class Exponential(Method):
    r"""The transform :math:`f(g) = e^{kg}`, so that :math:`f(\log p / T) = p^{k/T}`.

    Args:
        k: Sharpness, greater than 0; larger is more convex. 1 suits autoregressive models, 1 to 8 one-pass models.

    Raises:
        ValueError: If ``k`` is not finite or not greater than 0.

    Example:
        >>> Exponential(2.0)(torch.tensor([0.0]))
        tensor([1.])

    References:
        Shao et al. 2023, "Beyond MLE", equations 12 and 13.
    """

    k: Annotated[Number, Setting("Sharpness; larger is more convex.", gt=0)] = 1.0

    declaration = Declaration(
        "exponential", "f(g) = exp(k·g)", "Shao et al. 2023", examples=(Example((*_PROPERTIES, "convex"), {"k": 2.0}),)
    )

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g), shape of ``g``."""
        return torch.exp(self.k * g)

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g), shape of ``g``."""
        return torch.exp(self.k * g) * self.k


@dataclass(frozen=True)
class BoxCox(Method):
    r"""The transform :math:`f(g) = (e^{kg} - 1)/k`, the Box–Cox transform of :math:`p^{1/T}`.

    It has the optimum of `Exponential`, a gradient that does not vanish with k, and maximum likelihood as its limit for
    k → 0: so k = 0 is allowed, and k can be a schedule that begins there.

    Args:
        k: Sharpness, at least 0.

    Raises:
        ValueError: If ``k`` is not finite or negative.

    Example:
        >>> BoxCox(0.0)(torch.tensor([-3.0]))
        tensor([-3.])

    References:
        Shao et al. 2023, "Beyond MLE", section 3.3.2; Box and Cox 1964.
    """

    k: Annotated[Number, Setting("Sharpness; 0 is maximum likelihood.", ge=0)] = 1.0

    declaration = Declaration(
        "box_cox",
        "f(g) = (exp(k·g) − 1) / k, maximum likelihood at k = 0",
        "Box and Cox 1964; Shao et al. 2023",
        examples=(
            Example((*_PROPERTIES, "convex"), {"k": 2.0}),
            Example((*_PROPERTIES, "equals_identity"), {"k": 0.0}),
        ),
    )

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g), shape of ``g``."""
        # expm1 keeps full precision as k → 0, where the transform tends to the identity.
        return torch.expm1(self.k * g) / self.k if self.k > 0 else g

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g), shape of ``g``."""
        return torch.exp(self.k * g)


@dataclass(frozen=True)
class Power(Method):
    r"""The transform :math:`f(g) = -(-g)^k`.

    Args:
        k: Exponent in (0, 1]; 1 is maximum likelihood, smaller is more convex. The paper found it weaker than
            `Exponential`, and unstable as k → 0.

    Raises:
        ValueError: If ``k`` is outside (0, 1].

    Example:
        >>> Power(0.5)(torch.tensor([-4.0]))
        tensor([-2.])

    References:
        Shao et al. 2023, "Beyond MLE", equations 12 and 13, appendix E.
    """

    k: Annotated[Number, Setting("Exponent; 1 is maximum likelihood, smaller is more convex.", gt=0, le=1)] = 1.0

    declaration = Declaration(
        "power",
        "f(g) = −(−g)^k",
        "Shao et al. 2023",
        examples=(
            Example((*_PROPERTIES, "convex"), {"k": 0.5}),
            Example((*_PROPERTIES, "equals_identity"), {"k": 1.0}),
        ),
    )

    def _positive(self, g: Tensor) -> Tensor:
        # The derivative is infinite at g = 0 for k < 1: a sequence with p = 1 has nothing left to learn, and one ulp
        # below it the weight is finite.
        return (-g).clamp(min=torch.finfo(g.dtype).tiny ** 0.5) if self.k < 1 else -g

    def __call__(self, g: Tensor) -> Tensor:
        """Return f(g), shape of ``g`` (at most 0)."""
        return -(self._positive(g) ** self.k)

    def derivative(self, g: Tensor) -> Tensor:
        """Return f'(g) = k·(−g)^(k−1), shape of ``g``."""
        return self.k * self._positive(g) ** (self.k - 1)


TRANSFORMS: Mapping[str, type[Method]] = method_table(Identity, Exponential, BoxCox, Power)
"""What a recipe may name as the ``transform`` of a convex composition."""


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
