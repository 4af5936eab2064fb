r"""The best distribution of a model that chooses every token independently, found from many starts at once.

Such a model has one distribution :math:`q_f` for each position f (a frame, for CTC), and an output has the probability

.. math:: q(y) = \sum_{a \in A(y)} \prod_f q_f(a_f)

where A(y) holds the alignments of y: one for a factorised model, many for CTC. For an f that is convex in g, as all of
the package are, :math:`f(g) \ge f(g_0) + f'(g_0)(g - g_0)`, and by Jensen's inequality log q(y) is at least an
expectation of :math:`\log \prod_f q_f(a_f)` under the posterior of alignments. Both bounds are tight at the current
point, and maximising them together is maximum likelihood with weights:

.. math:: q_f(v) \propto \sum_y w_y\, p_{data}(y)\, \frac{f'(g_y)}{T_y}\, P(a_f = v \mid y).

Each step therefore raises the objective (Dempster et al. 1977 for the alignments). Training does the same: the weights
f'(g) decide how much each output counts in the next step. The objective has several maxima, so the search starts from
many points; how much better the optimum could be is bounded, see `ProductOptimum`.

References:
    Varadhan and Roland 2008, "Simple and globally convergent methods for accelerating the convergence of any EM".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.curvature import grid
from sharpseq.theory.problem import Problem, log_derivative, loss_of_log_probs

_FIRST_STEPS, _FIRST_TOLERANCE = 150, 1e-8
_LAST_STEPS, _LAST_TOLERANCE, _FINALISTS = 3000, 1e-13, 4
"""All starts are followed roughly and the best few to the end: alignments have long flat valleys."""
_FLOOR = -300.0
"""Lower bound of log-probabilities during the search, so that a token that has faded can come back."""
_FADED = -250.0
_SAME = 1e-6
_NO_WORSE = 1e-12


@dataclass(frozen=True, eq=False)
class Alignments:
    """The alignments of each output.

    Args:
        tokens: Token at each position of each alignment, shape (N, M, F), int64.
        mask: True where there is an alignment, shape (N, M).
        num_tokens: Number of tokens to choose from at each position.
    """

    tokens: Tensor
    mask: Tensor
    num_tokens: int

    def log_probs(self, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Return log q of outputs (R, N) and of alignments (R, N, M), for distributions log_q (R, F, V)."""
        positions = torch.arange(self.tokens.shape[-1])
        joint = log_q[:, positions, self.tokens].sum(-1).masked_fill(~self.mask, -torch.inf)
        # A sum of probabilities that is 1 can round to a little more.
        return torch.logsumexp(joint, dim=-1).clamp(max=0.0), joint

    def one_hot(self) -> Tensor:
        """Return 1 where an alignment has a token at a position, shape (N · M, F, V)."""
        return torch.nn.functional.one_hot(self.tokens, self.num_tokens).double().flatten(0, 1)


@dataclass(frozen=True, eq=False)
class ProductOptimum:
    """The best distributions of the positions, and a bound on how much better the optimum can be.

    Args:
        log_probs: log q_f(v), shape (F, V), float64; −∞ for tokens that are never chosen.
        outcome_log_probs: log q(y) of the outcomes, shape (N,).
        unseen_mass: Total probability of outputs that do not occur in the data.
        loss: The loss, in units of f.
        bound: No distribution of this kind has a loss below this; proved, but not always tight.
        num_starts: Number of starts.
        num_maxima: Number of different maxima found, corners included.
        share: Share of the starts that ended at the best maximum.
    """

    log_probs: Tensor
    outcome_log_probs: Tensor
    unseen_mass: float
    loss: float
    bound: float
    num_starts: int
    num_maxima: int
    share: float

    @property
    def gap(self) -> float:
        """Return how much better the optimum could be at most, in units of f; 0 up to rounding proves optimality."""
        return max(0.0, self.loss - self.bound)


def check_convex(transform: Transform) -> None:
    """Raise unless f is convex in g, on a grid of g: the search relies on it."""
    slopes = log_derivative(transform, grid(700.0))
    falls = slopes.diff() < -1e-9 * (1 + slopes[1:].abs())
    if bool(falls.any()):
        where = float(grid(700.0)[1:][falls][-1])
        raise ValueError(f"`transform` must be convex in g = log q/T here; its derivative falls at g = {where:.6g}")


def search_products(problem: Problem, alignments: Alignments, *, starts: Tensor, bound: float) -> ProductOptimum:
    """Follow all starts to their maxima, and return the best of these and of the corners.

    Args:
        problem: The problem; its transform is convex in g.
        alignments: Alignments of its outcomes, at least one for each.
        starts: Positive distributions, shape (R, F, V).
        bound: A lower bound of the loss of distributions of this kind.
    """
    ends = _settle(problem, alignments, starts.log().clamp(min=_FLOOR), steps=_FIRST_STEPS, tolerance=_FIRST_TOLERANCE)
    first = _values(problem, alignments.log_probs(ends)[0]).argsort(descending=True)[:_FINALISTS]
    ends[first] = _settle(problem, alignments, ends[first], steps=_LAST_STEPS, tolerance=_LAST_TOLERANCE)
    ends = _log_shares(ends.masked_fill(ends < _FADED, -torch.inf).exp())
    found = torch.cat([_corners(alignments), ends])
    losses = torch.tensor([loss_of_log_probs(problem, y) for y in alignments.log_probs(found)[0]], dtype=torch.float64)
    scale = 1 + float(losses.min().abs())
    # Corners come first: of two equally good distributions, the one-hot one is returned.
    best = int((losses <= losses.min() + _NO_WORSE * scale).nonzero()[0])
    finite = losses[losses.isfinite()].sort().values
    outputs = alignments.log_probs(found[best : best + 1])[0][0]
    seen = torch.logsumexp(outputs[problem.p_data > 0], dim=0)
    return ProductOptimum(
        log_probs=found[best],
        outcome_log_probs=outputs,
        unseen_mass=max(0.0, -float(torch.expm1(seen))),
        loss=float(losses[best]),
        bound=min(bound, float(losses[best])),
        num_starts=len(ends),
        num_maxima=1 + int((finite[1:] - finite[:-1] > _SAME * scale).sum()),
        share=float((losses[len(losses) - len(ends) :] <= losses[best] + _SAME * scale).double().mean()),
    )


def random_starts(num_starts: int, num_positions: int, num_tokens: int, *, seed: int) -> Tensor:
    """Return random distributions, from flat to peaked, shape (R, F, V)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_starts, num_positions, num_tokens, generator=generator, dtype=torch.float64)
    spread = torch.linspace(0.3, 4.0, num_starts, dtype=torch.float64)[:, None, None]
    return torch.softmax(noise * spread, dim=-1)


def _corners(alignments: Alignments) -> Tensor:
    """Return all mass on one alignment, for every alignment, shape (R, F, V): the search only approaches these."""
    chosen = alignments.tokens[alignments.mask]
    one_hot = torch.nn.functional.one_hot(chosen, alignments.num_tokens).double()
    return one_hot.log()


def _settle(problem: Problem, alignments: Alignments, log_q: Tensor, *, steps: int, tolerance: float) -> Tensor:
    """Iterate until nothing changes; every second step is extrapolated if that is better."""
    one_hot = alignments.one_hot()
    active = torch.arange(len(log_q))
    settled = log_q.clone()
    start, (outputs, joint) = log_q, alignments.log_probs(log_q)
    value = _values(problem, outputs)
    for _ in range(steps):
        first = _step(problem, outputs, joint, one_hot)
        second = _step(problem, *alignments.log_probs(first), one_hot)
        choices = torch.stack([second, _extrapolated(start, first, second)])
        found = alignments.log_probs(choices.flatten(0, 1))
        values = _values(problem, found[0]).unflatten(0, (2, -1))
        chosen = values.argmax(0) * len(start) + torch.arange(len(start))
        # Change of outputs, not of positions: in a valley where only the alignments change, the search would never end.
        change = (found[0][chosen].exp() - outputs.exp()).abs().amax(-1)
        gain = values.amax(0) - value
        start, outputs, joint, value = choices.flatten(0, 1)[chosen], found[0][chosen], found[1][chosen], values.amax(0)
        settled[active] = start
        moves = (change > tolerance) | (gain > tolerance * value.abs())
        active, start, outputs, joint, value = active[moves], start[moves], outputs[moves], joint[moves], value[moves]
        if len(active) == 0:
            break
    return settled


def _step(problem: Problem, outputs: Tensor, joint: Tensor, one_hot: Tensor) -> Tensor:
    """Return maximum likelihood under the weights f'(g) and the posterior of alignments, shape (R, F, V)."""
    logs = (problem.stakes / problem.lengths).log() + log_derivative(problem.transform, outputs / problem.lengths)
    logs = logs[..., None] + joint - outputs[..., None]
    weights = (logs - logs.amax(dim=(1, 2), keepdim=True)).exp()
    counts = torch.tensordot(weights.flatten(1), one_hot, dims=1)
    return _log_shares(counts).clamp(min=_FLOOR)


def _extrapolated(start: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the limit of steps with a fixed ratio (step length S3 of Varadhan and Roland)."""
    way, bend = first - start, second - 2 * first + start
    length = way.flatten(1).norm(dim=1) / bend.flatten(1).norm(dim=1).clamp(min=1e-300)
    alpha = length.clamp(min=1.0, max=1e6)[:, None, None]
    logits = start + 2 * alpha * way + alpha**2 * bend
    return _log_shares((logits - logits.amax(-1, keepdim=True)).exp()).clamp(min=_FLOOR)


def _log_shares(counts: Tensor) -> Tensor:
    """Return log(counts/Σ counts) along the last dimension, to full precision even if one has nearly everything.

    A function as steep as −(−g)^k with k < 1 still distinguishes 1e-20 from 0.
    """
    top = counts.argmax(-1, keepdim=True)
    rest = counts.scatter(-1, top, 0.0).sum(-1, keepdim=True)
    total = rest + counts.gather(-1, top)
    return (counts / total).log().scatter(-1, top, torch.log1p(-rest / total))


def _values(problem: Problem, outputs: Tensor) -> Tensor:
    """Return Σ w p f(log q/T) for log-probabilities of outputs (R, N), shape (R,)."""
    return (problem.stakes * problem.transform(outputs / problem.lengths)).sum(-1)
