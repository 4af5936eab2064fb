r"""The exponential transform when k lies between the shortest and the longest length: a search over supports.

With :math:`s_i = k/T_i`, long outcomes (:math:`s_i < 1`) have a concave gain :math:`a_i q^{s_i}` with infinite slope at
0, short ones (:math:`s_i \ge 1`) a convex one. Every long outcome has mass at an optimum. Of the short ones at most one
has: moving mass between two of them is a convex problem, so all of it on one of them is at least as good. What is left
is the choice of that outcome j and of its mass t.

At a price :math:`\lambda = e^u` the long outcomes together take :math:`M(u) = \sum_i e^{(c_i - u)/(1 - s_i)}` and
leave :math:`t = 1 - M(u)`, which is stationary if

.. math:: \psi_j(u) = c_j + (s_j - 1) \log(1 - M(u)) - u = 0.

M is convex and decreasing, so :math:`\log(1 - M)` and therefore ψ are concave: there are at most two roots. Between
t = 0 and t = 1 the objective falls, rises and falls, so that the larger root is its only interior maximum. Newton's
method from :math:`u = c_j`, where :math:`\psi_j \le 0`, approaches it from the right, or passes the maximum of ψ if
there is no root. So one number is found for each candidate j, and comparing all of them with t = 0 is a proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.theory.closed_forms import log_powers, log_price_of_powers

_MOST_STEPS = 200


@dataclass(frozen=True, eq=False)
class SupportSearch:
    """The best distribution, and how many supports were compared.

    Args:
        log_probs: Shape (n,); −∞ outside the support.
        num_candidates: Number of supports compared, including the one without any short outcome.
        num_short: Number of outcomes of length at most k.
    """

    log_probs: Tensor
    num_candidates: int
    num_short: int


def search_supports(stakes: Tensor, lengths: Tensor, *, k: float) -> SupportSearch:
    """Return the optimum of the exponential transform if some lengths exceed k and others do not.

    Args:
        stakes: a = w·p_data, positive, shape (n,).
        lengths: T, shape (n,), at least one above ``k`` and one at most ``k``.
        k: Sharpness of the transform.

    Example:
        >>> stakes, lengths = torch.tensor([0.8, 0.2]).double(), torch.tensor([1, 4]).double()
        >>> search_supports(stakes, lengths, k=2.0).log_probs.exp()
        tensor([0.9961, 0.0039], dtype=torch.float64)
    """
    s = k / lengths
    c = (stakes * s).log()
    is_long = lengths > k
    long, short = is_long.nonzero().flatten(), (~is_long).nonzero().flatten()
    c_long, s_long = c[long], s[long]
    lowest_price = log_price_of_powers(c_long, s_long)

    def gain(price: float, j: int | None) -> float:
        log_mass = log_powers(c_long, s_long, price)
        earned = float((stakes[long] * (s_long * log_mass).exp()).sum())
        if j is None:
            return earned
        return earned + float(stakes[j]) * math.exp(float(s[j]) * _log_left_over(log_mass))

    best_price, best_j = lowest_price, None
    best_gain = gain(lowest_price, None)
    candidates = _undominated(short, stakes, lengths)
    for j in candidates:
        price = _largest_root(c_long, s_long, c_j=float(c[j]), s_j=float(s[j]), lowest_price=lowest_price)
        if price is not None and gain(price, j) > best_gain:
            best_price, best_j, best_gain = price, j, gain(price, j)

    log_probs = torch.full_like(stakes, -torch.inf)
    log_probs[long] = log_powers(c_long, s_long, best_price)
    if best_j is not None:
        log_probs[best_j] = _log_left_over(log_probs[long])
    return SupportSearch(log_probs, len(candidates) + 1, len(short))


def _undominated(short: Tensor, stakes: Tensor, lengths: Tensor) -> list[int]:
    """Return the short outcomes for which no other has both a larger stake and a longer length.

    For t in (0, 1) the gain a·t^{k/T} grows with a and with T, whatever the other outcomes have.
    """
    by_stake = short[torch.argsort(stakes[short], descending=True, stable=True)]
    order = by_stake[torch.argsort(lengths[by_stake], descending=True, stable=True)]
    kept: list[int] = []
    largest = -math.inf
    for i, stake in zip(order.tolist(), stakes[order].tolist(), strict=True):
        if stake > largest:
            kept.append(i)
            largest = stake
    return kept


def _largest_root(c_long: Tensor, s_long: Tensor, *, c_j: float, s_j: float, lowest_price: float) -> float | None:
    """Return the largest root of ψ_j above the lowest price, where the long outcomes leave mass over; or None."""
    price = c_j
    rates = 1 / (1 - s_long)
    for _ in range(_MOST_STEPS):
        if price <= lowest_price:
            return None
        mass = log_powers(c_long, s_long, price).exp()
        left = 1 - float(mass.sum())
        if left <= 0:
            return None
        psi = c_j + (s_j - 1) * math.log(left) - price
        slope = (s_j - 1) * float((mass * rates).sum()) / left - 1
        if psi >= 0:
            return price
        if slope >= 0:
            return None
        following = price - psi / slope
        if following >= price:
            return price
        price = following
    return price


def _log_left_over(log_mass: Tensor) -> float:
    return math.log1p(-float(log_mass.exp().sum()))
