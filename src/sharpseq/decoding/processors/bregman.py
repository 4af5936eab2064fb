r"""Sparse distributions near a given one: Bregman projections on k tokens, and the k with the least cost.

With :math:`\phi(x) = \frac{x^\alpha}{\alpha(\alpha-1)}`, or x log x for α = 1, and
:math:`d(x, y) = \phi(x) - \phi(y) - \phi'(y)(x - y)`, the primal projection q of p minimises Σ d(q_i, p_i) and the dual
one Σ d(p_i, q_i) over distributions on k tokens. Both have their support on the k most probable tokens. Everything here
is float64, on probabilities (R, K) that fall from left to right; a row may end in zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_STEPS, _PRECISION = 100, 1e-12


def project(probs: Tensor, k: Tensor, *, alpha: float, is_dual: bool) -> Tensor:
    r"""Return the projections on the k first tokens, shape (R, K), 0 after them.

    Primal: :math:`q_i = (p_i^{\alpha-1} + \nu)^{1/(\alpha-1)}`; dual: :math:`q_i = p_i + \nu q_i^{2-\alpha}`; ν so that
    they sum to 1. For α = 1 both are p divided by its sum, for α = 2 both add the same to each.

    Args:
        probs: Positive probabilities, at least the first k, shape (R, K).
        k: Sizes of the supports, shape (R,).
        alpha: α, greater than 0, for the dual greater than 1.
        is_dual: The dual, else the primal.

    Example:
        >>> project(torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64), torch.tensor([2]), alpha=2.0, is_dual=False)
        tensor([[0.6000, 0.4000, 0.0000]], dtype=torch.float64)
    """
    kept = _first(probs, k)
    mass = probs.where(kept, 0.0).sum(-1, keepdim=True)
    if alpha == 1:
        return probs.where(kept, 0.0) / mass
    if alpha == 2:
        return (probs + (1 - mass) / k[:, None]).where(kept, 0.0)
    support = probs.where(kept, 1.0)
    # The sum of q is convex in ν for α up to 2, in ν^(1/(α−1)) above: Newton steps from above its root are monotone.
    level = 1 - support[:, :1] ** (alpha - 1) if alpha < 1 else torch.ones_like(mass)
    for _ in range(_MOST_STEPS):
        q, slope = _at_level(support, level, alpha=alpha, is_dual=is_dual)
        excess = q.where(kept, 0.0).sum(-1, keepdim=True) - 1
        if bool((excess.abs() <= _PRECISION).all()):
            break
        level = level - excess / slope.where(kept, 0.0).sum(-1, keepdim=True)
    found = q.where(kept, 0.0)
    return found / found.sum(-1, keepdim=True)


def least_cost_sizes(probs: Tensor, num_positive: Tensor, *, price: float, alpha: float, is_dual: bool) -> Tensor:
    """Return the k with the least divergence + price · k, shape (R,), by bisection: the cost is convex in k.

    Args:
        probs: Falling probabilities, shape (R, K).
        num_positive: How many of them may be kept, shape (R,).
        price: Cost of each kept token, greater than 0.
        alpha: α.
        is_dual: The dual, else the primal.

    Example:
        >>> probs = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
        >>> [int(least_cost_sizes(probs, torch.tensor([3]), price=x, alpha=1, is_dual=False)) for x in (0.1, 0.3, 0.5)]
        [3, 2, 1]
    """
    low, high = torch.ones_like(num_positive), num_positive
    while bool((low < high).any()):
        # At most doubled: the work grows with what is kept, not with what might be.
        middle = ((low + high) // 2).minimum(2 * low)
        more = (middle + 1).minimum(num_positive)
        gain = relative_cost(probs, middle, alpha=alpha, is_dual=is_dual) - relative_cost(
            probs, more, alpha=alpha, is_dual=is_dual
        )
        is_worth = gain > price
        low, high = torch.where(is_worth, more, low), torch.where(is_worth, high, middle)
    return low


def relative_cost(probs: Tensor, k: Tensor, *, alpha: float, is_dual: bool) -> Tensor:
    """Return the divergence of the projection on k tokens less that of keeping none, which no k changes, shape (R,)."""
    probs = probs[:, : int(k.max())]
    kept = _first(probs, k)
    p, q = probs.where(kept, 1.0), project(probs, k, alpha=alpha, is_dual=is_dual).where(kept, 1.0)
    if alpha == 1:
        terms = q * (q / p).log() - q
    else:
        x, y = (p, q) if is_dual else (q, p)
        bregman = (x**alpha - y**alpha) / (alpha * (alpha - 1)) - y ** (alpha - 1) / (alpha - 1) * (x - y)
        terms = bregman - price_of_leaving(p, alpha=alpha, is_dual=is_dual)
    return terms.where(kept, 0.0).sum(-1)


def price_of_leaving(probs: Tensor, *, alpha: float, is_dual: bool) -> Tensor:
    """Return the divergence between each probability and 0."""
    return probs**alpha / (alpha * (alpha - 1) if is_dual else alpha)


def _first(probs: Tensor, k: Tensor) -> Tensor:
    return torch.arange(probs.shape[-1], device=probs.device) < k[:, None]


def _at_level(p: Tensor, level: Tensor, *, alpha: float, is_dual: bool) -> tuple[Tensor, Tensor]:
    """Return q for a ν, or for an α above 2 a ν^(1/(α−1)), of each row (R, 1), and its derivative."""
    shift = level ** (alpha - 1) if alpha > 2 else level
    if is_dual:
        q = _dual_root(p, shift, alpha=alpha)
        slope = q ** (3 - alpha) / ((alpha - 1) * q + (2 - alpha) * p)
    else:
        q = (p ** (alpha - 1) + shift) ** (1 / (alpha - 1))
        slope = q ** (2 - alpha) / (alpha - 1)
    return q, slope * (alpha - 1) * level ** (alpha - 2) if alpha > 2 else slope


def _dual_root(p: Tensor, shift: Tensor, *, alpha: float) -> Tensor:
    """Solve q − ν q^(2−α) = p for q by Newton steps from the side where they are monotone."""
    q = torch.ones_like(p) if alpha < 2 else p.maximum(shift ** (1 / (alpha - 1)))
    for _ in range(_MOST_STEPS):
        step = (q - shift * q ** (2 - alpha) - p) / (1 - (2 - alpha) * shift * q ** (1 - alpha))
        q = q - step
        if bool((step.abs() <= _PRECISION * q).all()):
            break
    return q
