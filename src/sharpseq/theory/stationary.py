r"""From nearly optimal to optimal: Newton's method on the stationarity conditions, from a good start.

The unknowns are :math:`x_i = \log q_i` on the support and the log-price u. The conditions are

.. math:: c_i + \log f'(x_i/T_i) - x_i = u, \qquad \sum_i e^{x_i} = 1.

Their Jacobian is diagonal except for one row and column, so a step costs as much as a sum over the outcomes. If one
outcome has nearly all mass, one minus its mass is computed as the sum of the others: subtracting would lose digits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpseq.theory.problem import Problem, log_derivative, value_at_zero

_STEPS = 400
_LARGEST_STEP = 0.5
_NEARLY_ONE = -1e-12
_ROUNDING = 1e-15
_PRECISE = 1e-9
"""Steps this small that no longer shrink are rounding errors."""
_NOISE = 1e-5
_PATIENCE = 40
"""A user's f' may be inexact: steps below `_NOISE` that have not shrunk for this many iterations are its noise."""
_NEGLIGIBLE = -37.0
"""e^−37 is below the rounding of 1."""


def refine(problem: Problem, log_probs: Tensor) -> Tensor | None:
    """Return the stationary distribution near a start, or None if Newton's method does not converge.

    Outcomes that start at probability 0 stay there. An outcome that shrinks below rounding, and whose marginal gain is
    below the price, is dropped if f is finite at probability 0.

    Args:
        problem: A problem in which every outcome has p_data > 0.
        log_probs: The start, shape (n,).

    Returns:
        Log-probabilities, shape (n,), that sum to 1 within rounding.
    """
    droppable = value_at_zero(problem.transform) > -torch.inf
    active = (log_probs > -torch.inf).nonzero().flatten()
    x = log_probs.clone()
    if float(x.max()) > _NEARLY_ONE:
        x[active] = _summing_to_one(x[active])
    best, smallest_error, num_worse = x.clone(), torch.inf, 0
    for _ in range(_STEPS):
        if len(active) == 1:
            return torch.full_like(x, -torch.inf).index_fill_(0, active, 0.0)
        here = x[active]
        change, falling = _newton_step(problem, here, active)
        error = float((change / here).abs().max())
        if math.isnan(error):
            return None
        if error < smallest_error:
            best, smallest_error, num_worse = x.clone(), error, 0
        else:
            num_worse += 1
        patience = 0 if smallest_error < _PRECISE else _PATIENCE
        if error <= _ROUNDING or (smallest_error < _NOISE and num_worse > patience):
            break
        # Near q = 1, where scales differ by many powers of ten, the distance from 1 is at most halved or doubled.
        lowest, highest = here.clamp(min=-_LARGEST_STEP), (-here / 2).clamp(max=_LARGEST_STEP)
        here = here + torch.minimum(torch.maximum(change, lowest), highest)
        x[active] = here
        faded = (here < _NEGLIGIBLE) & falling
        if droppable and bool(faded.any()):
            x[active[faded]] = -torch.inf
            active = active[~faded]
            smallest_error = torch.inf
    if smallest_error >= _NOISE:
        return None
    best[active] = _summing_to_one(best[active])
    return best


def nearly_one_hot(problem: Problem, index: int) -> Tensor | None:
    """Return roughly the stationary distribution closest to all mass on one outcome, shape (n,), or None.

    It can be closer than any table of probabilities resolves: with ``Power(0.05)`` all others together get 1e-40. The
    others are assumed to share the remaining mass δ as under maximum likelihood. Then δ is where the marginal gain of
    the one outcome crosses that of the largest of the others; `refine` does the rest.
    """
    shares = (problem.stakes / problem.lengths).index_fill(0, torch.tensor(index), 0.0)
    shares = shares / shares.sum()
    pair = torch.stack([torch.tensor(index), shares.argmax()])
    missing = torch.logspace(-300, -0.5, 1200, dtype=torch.float64)
    logs = torch.stack([torch.log1p(-missing), (missing * shares[pair[1]]).log()])
    lengths = problem.lengths[pair][:, None]
    gains = (problem.stakes[pair][:, None] / lengths).log() + log_derivative(problem.transform, logs / lengths) - logs
    rises = ((gains[0] < gains[1])[:-1] & (gains[0] >= gains[1])[1:]).nonzero().flatten()
    if len(rises) == 0:
        return None
    start = shares.log() + missing[rises[0]].log()
    start[index] = torch.log1p(-missing[rises[0]])
    return start


def _newton_step(problem: Problem, here: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return the change of x on the support, and True where the marginal gain is below the price and q still falls."""
    lengths = problem.lengths[active]
    offset = (problem.stakes[active] / lengths).log()

    def log_gain(at: Tensor) -> Tensor:
        return offset + log_derivative(problem.transform, at / lengths) - at

    gain = log_gain(here)
    step = 1e-5 * torch.minimum(here.abs(), 1 + here.abs() / 10)
    slope = (log_gain(here + step) - log_gain(here - step)) / (2 * step)
    # dx = (u − gain)/slope for each, and Σ e^x (1 + dx) = 1 gives u.
    mass = here.exp()
    top = int(here.argmax())
    missing = -torch.expm1(here[top]) - mass[:top].sum() - mass[top + 1 :].sum()
    ease = mass / slope
    price = (missing + (ease * gain).sum()) / ease.sum()
    change = (price - gain) / slope
    return change, (gain < price) & (change < -_LARGEST_STEP)


def _summing_to_one(x: Tensor) -> Tensor:
    """Return log-probabilities whose largest is one minus the others, to full precision near 1."""
    top = int(x.argmax())
    others = x[:top].exp().sum() + x[top + 1 :].exp().sum()
    if float(others) > 0.5:
        return x - torch.logsumexp(x, dim=0)
    x = x.clone()
    x[top] = torch.log1p(-others)
    return x
