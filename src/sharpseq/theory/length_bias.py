r"""How lengths bias an optimum: how much of the data a short outcome needs to win against a long one.

With stakes :math:`a = w\,p_{data}`, two outcomes of lengths S < L share the mass evenly, :math:`q = 1/2`, if their
marginal gains there are equal. For the exponential transform with k below both lengths, that is at the odds

.. math:: \frac{p_S}{p_L} = \frac{w_L}{w_S} \cdot \frac{S}{L} \cdot 2^{k(1/S - 1/L)}.

- Per sequence (w = 1), maximum likelihood favours the short outcome: log q/T divides by the length, so that q ∝ p/T.
  The power of two works against this, and for k ≥ L no bias is left: the most probable outcome wins.
- Per token (w = T), maximum likelihood is unbiased, q = p. Only the power of two is left, so that every k > 0 favours
  the long outcome, and for k ≥ L it wins if :math:`p_L > S/(S + L)`.

For k ≥ S, F is convex for the short outcome. At slightly larger k this outcome has either no mass or a lot, and its
share jumps over 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sharpseq.objectives.transforms import BoxCox, Exponential, Transform
from sharpseq.theory.optimum import solve
from sharpseq.theory.problem import Problem, Weighting, log_derivative, make_problem
from sharpseq.theory.switches import Switch, find_switches

_HALF = 1e-9
_FIRST_STEP = 0.1
_TOLERANCE = 1e-10


def break_even_share(
    transform: Transform, *, short: float, long: float, weighting: Weighting = "sequence_mean"
) -> float:
    """Return the share of the data above which the short one of two outcomes gets more than half of the optimum.

    It is 1/2 if lengths do not matter; below 1/2 the objective favours the short outcome, above 1/2 the long one. The
    short outcome's probability in the optimum never falls as its share of the data rises, so the answer is unique; the
    optimum may jump over 1/2 there.

    Args:
        transform: f, as in `optimal_distribution`.
        short: Length of one outcome in tokens, at least 1.
        long: Length of the other one.
        weighting: How the loss of a sequence counts.

    Returns:
        A share in (0, 1), to ten digits.

    Raises:
        ValueError: If ``short`` exceeds ``long``, or as `make_problem` does.

    Example:
        >>> from sharpseq.objectives import Identity
        >>> for transform in (Identity(), Exponential(8.0)):
        ...     for weighting in ("sequence_mean", "token_mean"):
        ...         print(f"{break_even_share(transform, short=4, long=8, weighting=weighting):.3f}", end=" ")
        0.333 0.500 0.500 0.667
    """
    if not short <= long:
        raise ValueError(f"`short` must be at most `long`; got {short} and {long}")
    given = make_problem([0.5, 0.5], transform, lengths=[short, long], weighting=weighting)

    def share_of_short(odds: float) -> float:
        p = torch.tensor([odds, 0.0], dtype=torch.float64).softmax(0)
        return float(solve(Problem(p, given.lengths, given.weights, given.transform)).probs[0])

    gains = (given.weights / given.lengths).log() + log_derivative(transform, -math.log(2) / given.lengths)
    even = float(gains[1] - gains[0])
    if abs(share_of_short(even) - 0.5) < _HALF:
        return 1 / (1 + math.exp(-even))
    low, high = even - _FIRST_STEP, even + _FIRST_STEP
    while share_of_short(low) >= 0.5:
        low -= high - low
    while share_of_short(high) < 0.5:
        high += high - low
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if share_of_short(middle) < 0.5 else (low, middle)
    return 1 / (1 + math.exp(-(low + high) / 2))


def winner_switches(
    p_data: Tensor | Sequence[float],
    *,
    lengths: Tensor | Sequence[float],
    weighting: Weighting = "sequence_mean",
    highest_k: float | None = None,
    num_points: int = 200,
) -> list[Switch[int]]:
    """Return the k of the exponential transform, rising from 0, at which another outcome becomes the most probable.

    Args:
        p_data: Probabilities, or counts, shape (n,).
        lengths: T in tokens, shape (n,).
        weighting: How the loss of a sequence counts.
        highest_k: End of the scan; when left out, just above the longest length, after which nothing changes.
        num_points: Number of points in the scan; a winner that comes and goes between two of them is missed.

    Returns:
        Switches whose ``before`` and ``after`` are indices of outcomes.

    Example:
        >>> for switch in winner_switches([0.4, 0.6], lengths=[3, 6]):
        ...     print(f"k = {switch.k:.2f}: {switch.before} -> {switch.after}")
        k = 2.49: 0 -> 1
    """
    given = make_problem(p_data, Exponential(1.0), lengths=lengths, weighting=weighting)
    highest = 1.01 * float(given.lengths.max()) if highest_k is None else highest_k

    def winner(k: float) -> int:
        problem = Problem(given.p_data, given.lengths, given.weights, BoxCox(k))
        return int(solve(problem).log_probs.argmax())

    return find_switches(winner, low=0.0, high=highest, num_points=num_points, tolerance=1e-6)
