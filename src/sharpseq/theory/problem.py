"""The problem that an optimum solves: data, lengths, weights and a transform, checked once and then trusted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Method, value_at
from sharpseq.objectives.transforms import BoxCox, Exponential, Transform, derivative

Weighting = Literal["sequence_mean", "token_mean"]
"""How much the loss of a sequence counts: once, or once for each of its tokens."""

_EPSILON = torch.finfo(torch.float64).eps
_SUM_TOLERANCE = 1e-6
"""Probabilities in single precision sum to 1 within this; larger deviations are not rounding errors."""
_DERIVATIVE_TOLERANCE = 1e-3
"""Central differences of a smooth transform are far more accurate than this, and a wrong formula is far off."""

_UNDERFLOW = 1e-290
"""Differences of numbers near underflow say nothing about a derivative."""


class NormalizationWarning(UserWarning):
    """Counts were given instead of probabilities; they were divided by their sum."""


@dataclass(frozen=True, eq=False)
class Problem:
    r"""Minimise :math:`-\sum_i w_i\, p_{data}(i)\, f(\log q_i / T_i)` over distributions q; made by `make_problem`.

    Args:
        p_data: Probabilities of the outcomes in the data, shape (n,), float64; zeros are allowed.
        lengths: T in tokens, at least 1, shape (n,).
        weights: w, 1 or T, shape (n,).
        transform: f, increasing on g < 0.
    """

    p_data: Tensor
    lengths: Tensor
    weights: Tensor
    transform: Transform

    @cached_property
    def stakes(self) -> Tensor:
        """Return w·p_data, the factor of each outcome's f, shape (n,)."""
        return self.weights * self.p_data


@dataclass(frozen=True)
class FunctionOfProbability:
    """The transform g ↦ F(e^g), whose loss on sequences of length 1 is −F(q); see `function_of_probability`."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, g: Tensor) -> Tensor:
        """Return F(e^g)."""
        return self.function(torch.exp(g))

    def derivative(self, g: Tensor) -> Tensor:
        """Return e^g · F'(e^g), without the digits that differentiating through the logarithm can lose."""
        q = torch.exp(g)
        return q * derivative(self.function, q)


def function_of_probability(function: Callable[[Tensor], Tensor]) -> FunctionOfProbability:
    """Return the transform under which a sequence of length 1 has the loss −F(q).

    Args:
        function: F, elementwise, increasing and differentiable by torch on (0, 1].

    Example:
        >>> transform = function_of_probability(lambda q: q**2)
        >>> transform(torch.tensor(0.5).log())
        tensor(0.2500)

    References:
        Shao et al. 2023, "Beyond MLE", equation 7, where the loss is a function of the probability.
    """
    return FunctionOfProbability(function)


def make_problem(
    p_data: Tensor | Sequence[float],
    transform: Transform,
    *,
    lengths: Tensor | Sequence[float] | None = None,
    weighting: Weighting = "sequence_mean",
) -> Problem:
    r"""Check a user's arguments and return the problem.

    Args:
        p_data: Probabilities, or counts that are then normalised with a `NormalizationWarning`, shape (n,).
        transform: f, elementwise and increasing on g < 0; differentiable by torch or with its own ``derivative(g)``.
        lengths: T in tokens, at least 1, shape (n,); 1 for every outcome when left out.
        weighting: ``"sequence_mean"`` counts every sequence once, ``"token_mean"`` T times, like the trainers.

    Raises:
        ValueError: If an argument is not finite, is negative, is empty, has no mass or has another shape, or if the
            transform decreases or its derivative disagrees with finite differences.
        TypeError: If ``transform`` is not callable.

    Example:
        >>> from sharpseq.objectives import Exponential
        >>> make_problem([0.75, 0.25], Exponential(1.0), lengths=[2, 4], weighting="token_mean").stakes
        tensor([1.5000, 1.0000], dtype=torch.float64)
    """
    method: object = transform
    if isinstance(method, Method) and method.is_scheduled:
        raise ValueError(f"`transform` must not change: an optimum has one objective; got {transform}")
    p = _normalized(_vector(p_data, "p_data"))
    T = torch.ones_like(p) if lengths is None else _vector(lengths, "lengths")
    if T.shape != p.shape:
        raise ValueError(f"`lengths` must have one entry for each of the {len(p)} outcomes; got {len(T)}")
    if (T < 1).any():
        where = int((T < 1).nonzero()[0])
        raise ValueError(f"`lengths` must be at least 1; got {T[where]:g} at index {where}")
    if weighting not in ("sequence_mean", "token_mean"):
        raise ValueError(f"`weighting` must be 'sequence_mean' or 'token_mean'; got {weighting!r}")
    check_transform(transform)
    return Problem(p, T, T.clone() if weighting == "token_mean" else torch.ones_like(p), transform)


def loss(problem: Problem, probs: Tensor) -> float:
    """Return the loss of a distribution, in units of f; infinite if f is −∞ at a probability of 0.

    Args:
        problem: The problem.
        probs: A distribution over the outcomes, shape (n,).

    Example:
        >>> from sharpseq.objectives import Identity
        >>> round(loss(make_problem([0.5, 0.5], Identity()), torch.tensor([0.5, 0.5])), 4)
        0.6931
    """
    return loss_of_log_probs(problem, torch.as_tensor(probs, dtype=torch.float64).log())


def loss_of_log_probs(problem: Problem, log_probs: Tensor) -> float:
    """Return the loss from log-probabilities, shape (n,); exact even if the probabilities underflow."""
    counted = problem.p_data > 0
    g = log_probs[counted] / problem.lengths[counted]
    return -float((problem.stakes[counted] * values(problem.transform, g)).sum())


def marginal_gains(problem: Problem, probs: Tensor) -> Tensor:
    r"""Return :math:`w_i\, p_i\, f'(\log q_i/T_i) / (T_i q_i)`, shape (n,): the gain from more mass on an outcome.

    At an optimum these are equal wherever q > 0, and nowhere larger.

    Example:
        >>> from sharpseq.objectives import Identity
        >>> marginal_gains(make_problem([0.75, 0.25], Identity()), torch.tensor([0.5, 0.5]))
        tensor([1.5000, 0.5000], dtype=torch.float64)
    """
    return log_marginal_gains(problem, torch.as_tensor(probs, dtype=torch.float64).log()).exp()


def log_marginal_gains(problem: Problem, log_probs: Tensor) -> Tensor:
    """Return the logarithms of the marginal gains at log-probabilities, shape (n,); −∞ where p_data is 0.

    A probability of 0 is taken as e^−700, the smallest that can be divided by.
    """
    x = torch.where(log_probs == -torch.inf, SMALLEST_LOG_PROB, log_probs)
    return (problem.stakes / problem.lengths).log() + log_derivative(problem.transform, x / problem.lengths) - x


SMALLEST_LOG_PROB = -700.0
"""Used for the logarithm of 0: e^−700 is about the smallest probability that float64 can still divide by."""


def log_derivative(transform: Transform, g: Tensor) -> Tensor:
    """Return log f'(g), shape of ``g``; −∞ where f' is 0."""
    if isinstance(transform, Exponential | BoxCox):  # the derivative can underflow, its logarithm cannot
        k = value_at(transform.k, 1.0)
        offset = 0.0 if isinstance(transform, BoxCox) else float(torch.tensor(k, dtype=torch.float64).log())
        return k * g + offset
    return derivative(transform, g).detach().log()


def values(transform: Transform, g: Tensor) -> Tensor:
    """Return f(g) detached, shape of ``g``, with its limit where g is −∞."""
    with torch.no_grad():
        found = transform(g)
        at_zero = g == -torch.inf
        return torch.where(at_zero, value_at_zero(transform), found) if bool(at_zero.any()) else found


def value_at_zero(transform: Transform) -> float:
    """Return the limit of f(g) as g → −∞, that is, f at probability 0; −∞ if there is no finite limit.

    Example:
        >>> from sharpseq.objectives import Exponential, Power
        >>> value_at_zero(Exponential(2.0)), value_at_zero(Power(0.5))
        (0.0, -inf)
    """
    with torch.no_grad():
        found = transform(torch.tensor([-torch.inf, -1e15, -1e12], dtype=torch.float64))
    limit, far, near = (float(value) for value in found)
    if not math.isnan(limit):  # the formula itself gives the limit
        return limit
    return far if abs(far - near) <= 1e-9 * (1 + abs(near)) else -torch.inf


def check_transform(transform: Transform) -> None:
    """Raise unless a transform is callable and increasing, with a correct derivative, for g from −700 to −1e-4."""
    if not callable(transform):
        raise TypeError(f"`transform` must be callable; got {transform!r}")
    g = -torch.logspace(-4, 2.84, 200, dtype=torch.float64).flip(0)
    with torch.no_grad():
        f = transform(g)
        step = 1e-5 * g.abs()
        above, below = transform(g + step), transform(g - step)
    if not isinstance(f, Tensor):
        raise TypeError(f"`transform` must return a tensor; got {f!r}")
    if f.shape != g.shape:
        raise ValueError(f"`transform` must work elementwise; got shape {tuple(f.shape)} from {tuple(g.shape)}")
    if f.dtype != g.dtype:
        raise ValueError(f"`transform` must keep float64; got {f.dtype}")
    if not bool(f.isfinite().all()):
        where = float(g[~f.isfinite()][-1])
        raise ValueError(f"`transform` must be finite below 0; got {float(f[~f.isfinite()][-1])} at g = {where:.6g}")
    # Not only f is rounded, but also intermediate numbers of order 1, as in log(q + 1).
    rounding = 8 * _EPSILON * (f.abs() + f.abs().max().clamp(max=1.0))
    falls = f[1:] < f[:-1] - rounding[1:]
    if bool(falls.any()) or not float(f[-1]) > float(f[0]):
        where = float(g[1:][falls][-1]) if bool(falls.any()) else float(g[-1])
        raise ValueError(f"`transform` must increase; it does not at g = {where:.6g}")
    try:
        slope = derivative(transform, g)
    except RuntimeError as error:
        raise ValueError(f"`transform` must be differentiable by torch or carry a `derivative`; {error}") from error
    difference = (above - below) / (2 * step)
    allowed = _DERIVATIVE_TOLERANCE * torch.maximum(slope.abs(), difference.abs()) + rounding / step + _UNDERFLOW
    wrong = ~((slope - difference).abs() <= allowed)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[-1])
        raise ValueError(
            f"`transform` has a derivative that disagrees with finite differences at g = {float(g[at]):.6g}: "
            f"{float(slope[at]):.6g} against {float(difference[at]):.6g}"
        )


def _vector(given: Any, name: str) -> Tensor:
    try:
        vector = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be a sequence of numbers; {error}") from error
    if vector.dim() != 1:
        raise ValueError(f"`{name}` must have one dimension; got shape {tuple(vector.shape)}")
    if not bool(vector.isfinite().all()):
        where = int((~vector.isfinite()).nonzero()[0])
        raise ValueError(f"`{name}` must be finite; got {float(vector[where])} at index {where}")
    return vector


def _normalized(p: Tensor) -> Tensor:
    """Return probabilities that sum to 1, from probabilities or counts."""
    if len(p) == 0:
        raise ValueError("`p_data` must have at least one outcome; got none")
    if bool((p < 0).any()):
        where = int((p < 0).nonzero()[0])
        raise ValueError(f"`p_data` must not be negative; got {float(p[where]):g} at index {where}")
    total = float(p.sum())
    if total == 0:
        raise ValueError("`p_data` must have some mass; every entry is 0")
    if abs(total - 1) > _SUM_TOLERANCE:
        if not bool((p == p.round()).all()):
            raise ValueError(f"`p_data` must sum to 1 or hold whole counts; it sums to {total:.9g}")
        message = f"`p_data` holds counts: they were divided by their sum, {total:g}"
        warnings.warn(message, NormalizationWarning, stacklevel=4)
    return p / total
