r"""Concave problems: one price λ for all outcomes, found by Newton's method.

If every F is concave, the conditions of Karush, Kuhn and Tucker are sufficient. Each outcome has one probability
:math:`q_i(u)` at which its marginal gain is the price :math:`e^u` (0 if the gain is smaller everywhere, 1 if it is
larger everywhere). These probabilities fall as the price rises, and the optimum is where they sum to 1. The computation
is in :math:`x = \log q`, where marginal gains vary slowly and nothing underflows. Newton's method is kept inside a
bracket, which is halved when a step leaves it, so that it converges whatever function a user passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.problem import Problem, log_derivative, value_at_zero

_INNER_STEPS = 200
_OUTER_STEPS = 200
_ROUNDING = 2e-15
_ALL = slice(None)


@dataclass
class Demand:
    """The probability of each outcome at a price, if F is concave; kept as the start for the next price.

    Args:
        problem: A problem in which every outcome has p_data > 0.
        x: Log-probabilities to start from, shape (n,).
    """

    problem: Problem
    x: Tensor

    def __post_init__(self) -> None:
        self.offset = (self.problem.stakes / self.problem.lengths).log()
        self.lowest = deepest_usable(self.problem.transform) * self.problem.lengths
        self.bottom = self.lowest if value_at_zero(self.problem.transform) == -torch.inf else -torch.inf
        self.x = self.x.clone()
        self.gain_at_bottom = self.log_gain(self.lowest)
        self.gain_at_top = self.log_gain(torch.zeros_like(self.x))

    def log_gain(self, x: Tensor, among: Tensor | slice = _ALL) -> Tensor:
        """Return the logarithm of the marginal gain at log-probabilities x, shape of ``x``; it decreases in x."""
        return self.offset[among] + log_derivative(self.problem.transform, x / self.problem.lengths[among]) - x

    def slope(self, x: Tensor, among: Tensor) -> Tensor:
        """Return a difference quotient of `log_gain`: it only steers the steps, so it need not be exact."""
        step = 1e-5 * (1 + x.abs())
        upper, lower = (x + step).clamp(max=0.0), torch.maximum(x - step, self.lowest[among])
        return ((self.log_gain(upper, among) - self.log_gain(lower, among)) / (upper - lower)).clamp(max=-1e-12)

    def at(self, log_price: float) -> tuple[Tensor, float]:
        """Return log-probabilities at a price, shape (n,), and the derivative of their sum in the log-price."""
        over, under = self.gain_at_top >= log_price, self.gain_at_bottom <= log_price
        between = (~(over | under)).nonzero().flatten()
        self.x[between] = self.crossing(log_price, between)
        moving = self.x[between].exp() / self.slope(self.x[between], between)
        return torch.where(over, 0.0, torch.where(under, self.bottom, self.x)), float(moving.sum())

    def crossing(self, log_price: float, among: Tensor) -> Tensor:
        """Return the log-probabilities at which the marginal gain of some outcomes is the price, shape of ``among``."""
        found = self.x[among]
        left = torch.arange(len(among))
        low, high = self.lowest[among], torch.zeros_like(found)
        for _ in range(_INNER_STEPS):
            x, which = found[left], among[left]
            error = self.log_gain(x, which) - log_price
            low, high = torch.where(error >= 0, x, low), torch.where(error >= 0, high, x)
            following = x - error / self.slope(x, which)
            following = torch.where((following > low) & (following < high), following, (low + high) / 2)
            met = error.abs() <= _ROUNDING * (1 + x.abs() + abs(log_price))
            unmet = ~(met | (high - low <= _ROUNDING * (1 + x.abs())))
            if not bool(unmet.any()):
                break
            left, low, high = left[unmet], low[unmet], high[unmet]
            found[left] = following[unmet]
        return found


def solve_concave(problem: Problem) -> Tensor:
    """Return the log-probabilities of the optimum, shape (n,), when F is concave for all lengths.

    Args:
        problem: A problem in which every outcome has p_data > 0.

    Example:
        >>> from sharpseq.theory.problem import function_of_probability, make_problem
        >>> shifted_log = function_of_probability(lambda q: (q + 0.5).log())
        >>> solve_concave(make_problem([0.6, 0.4], shifted_log)).exp()
        tensor([0.7000, 0.3000], dtype=torch.float64)
    """
    start = torch.log_softmax((problem.stakes / problem.lengths).log(), dim=0)
    demand = Demand(problem, torch.maximum(start, deepest_usable(problem.transform) * problem.lengths / 2))
    gains = demand.log_gain(demand.x)
    # At a price equal to the largest gain the probabilities sum to at most 1, at the smallest to at least 1.
    low, high = float(gains.min()) - 1e-9, float(gains.max()) + 1e-9
    price = float((start.exp() * gains).sum())
    too_much = too_little = None
    enough = _ROUNDING * max(1.0, 0.2 * len(start) ** 0.5)  # rounding error of a sum of so many terms
    for _ in range(_OUTER_STEPS):
        x, derivative = demand.at(price)
        excess = float(x.exp().sum()) - 1
        if abs(excess) <= enough:
            return x - math.log1p(excess)
        if excess > 0:
            low, too_much = price, x.exp()
        else:
            high, too_little = price, x.exp()
        # The logarithm of the sum is closer to linear in the log-price than the sum itself.
        following = price - (1 + excess) * math.log1p(excess) / derivative if derivative else low
        following = following if low < following < high else (low + high) / 2
        if abs(following - price) <= _ROUNDING / 2 * (1 + abs(price)):
            break
        price = following
    if abs(excess) <= 1e-12 or too_much is None or too_little is None:
        return x
    return _between(too_much, too_little).log()


def _between(too_much: Tensor, too_little: Tensor) -> Tensor:
    """Return the distribution between two solutions at one price: where F is linear, every mass is a solution."""
    share = float((too_much.sum() - 1) / (too_much.sum() - too_little.sum()))
    return too_much + share * (too_little - too_much)


def deepest_usable(transform: Transform) -> float:
    """Return the lowest g of a grid down to −1e5 above which f' does not underflow."""
    g = -torch.logspace(5, 0, 200, dtype=torch.float64)
    log_slope = log_derivative(transform, g)
    lost = ~(log_slope.isfinite() & (log_slope > -690))
    return float(g[lost][-1]) * 0.9 if bool(lost.any()) else float(g[0])
