"""What each objective wants of given outcomes: optima, how they sharpen with k, and what length does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sharpseq.analyses.theory.counts import OutcomeCounts
from sharpseq.analyses.theory.objectives_compared import Named
from sharpseq.objectives import BoxCox
from sharpseq.theory import find_switches, optimal_distribution
from sharpseq.theory.problem import Weighting

WEIGHTINGS: tuple[Weighting, ...] = ("sequence_mean", "token_mean")

_MOST_LISTED = 1000
_MOST_SHOWN = 8
_SHORT_SHARE = 0.4
"""The long outcome is the more frequent one: what favours the short one all the same shows."""


@dataclass(frozen=True)
class ObjectiveOptimum:
    """The optimum of one objective.

    Args:
        objective: Its name.
        weighting: How sequences are weighted.
        probs: Probabilities of the most frequent outcomes, as many as the study lists.
        top: The outcome with the largest probability.
        top_prob: Its probability.
        support: Number of outcomes with any probability.
        entropy: In nats.
        method: How it was found.
        certificate: Why it is the optimum.
        kkt_residual: Relative error of the conditions of first order.
        gap: No distribution is better by more than this, in units of f.
    """

    objective: str
    weighting: str
    probs: tuple[float, ...]
    top: str
    top_prob: float
    support: int
    entropy: float
    method: str
    certificate: str
    kkt_residual: float
    gap: float


@dataclass(frozen=True)
class Sharpening:
    """Optimal probabilities against k.

    Args:
        weighting: How sequences are weighted.
        k: Rising; 0 is maximum likelihood.
        probs: Of the most frequent outcomes, for each k.
    """

    weighting: str
    k: tuple[float, ...]
    probs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LengthBias:
    """A short outcome against a long one.

    Args:
        short: Length of the short one.
        long: Length of the long one.
        k: Rising; 0 is maximum likelihood.
        share: Share of the data that the short one has in ``short_prob``.
        short_prob: Optimal probability of the short one, for each weighting and k.
        break_even: Share of the data that the short one must have to get half of the mass, for each weighting and k.
    """

    short: float
    long: float
    k: tuple[float, ...]
    share: float
    short_prob: dict[str, tuple[float, ...]]
    break_even: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class OptimumStudy:
    """Everything about optimal distributions.

    Args:
        name: Of the data.
        num_outcomes: Outcomes that occur.
        outcomes: The most frequent of them.
        p_data: Their shares.
        lengths: Their lengths in tokens.
        optima: One for each weighting and objective.
        sharpening: One for each weighting.
        length_bias: For the shortest and the longest outcome; none if all have one length.
    """

    name: str
    num_outcomes: int
    outcomes: tuple[str, ...]
    p_data: tuple[float, ...]
    lengths: tuple[float, ...]
    optima: tuple[ObjectiveOptimum, ...]
    sharpening: tuple[Sharpening, ...]
    length_bias: LengthBias | None


def study_optima(counts: OutcomeCounts, objectives: Sequence[Named], *, num_points: int = 49) -> OptimumStudy:
    """Return the optima of all objectives under both weightings, and curves over k.

    Args:
        counts: The outcomes.
        objectives: Names and transforms.
        num_points: Points of each curve.
    """
    listed = slice(0, _MOST_LISTED)
    highest = 1.5 * max(counts.lengths)
    k = (0.0, *np.linspace(0, highest, num_points)[1:].tolist())
    return OptimumStudy(
        name=counts.name,
        num_outcomes=len(counts.outcomes),
        outcomes=counts.outcomes[listed],
        p_data=counts.p_data[listed],
        lengths=counts.lengths[listed],
        optima=objective_optima(counts, objectives),
        sharpening=tuple(Sharpening(weighting, k, _probs_over_k(counts, k, weighting)) for weighting in WEIGHTINGS),
        length_bias=_length_bias(counts, num_points=num_points),
    )


def objective_optima(counts: OutcomeCounts, objectives: Sequence[Named]) -> tuple[ObjectiveOptimum, ...]:
    """Return the optima of all objectives under both weightings."""
    return tuple(_optimum(counts, named, weighting) for weighting in WEIGHTINGS for named in objectives)


def _optimum(counts: OutcomeCounts, named: Named, weighting: Weighting) -> ObjectiveOptimum:
    name, transform = named
    best = optimal_distribution(counts.p_data, transform, lengths=counts.lengths, weighting=weighting)
    top = int(best.log_probs.argmax())
    return ObjectiveOptimum(
        objective=name,
        weighting=weighting,
        probs=tuple(best.probs[:_MOST_LISTED].tolist()),
        top=counts.outcomes[top],
        top_prob=float(best.probs[top]),
        support=int(best.support.sum()),
        entropy=best.entropy,
        method=best.method,
        certificate=best.certificate,
        kkt_residual=best.kkt_residual,
        gap=best.gap,
    )


def _probs_over_k(counts: OutcomeCounts, k: Sequence[float], weighting: Weighting) -> tuple[tuple[float, ...], ...]:
    rows = []
    for value in k:
        transform = BoxCox(value)
        best = optimal_distribution(counts.p_data, transform, lengths=counts.lengths, weighting=weighting)
        rows.append(tuple(best.probs[:_MOST_SHOWN].tolist()))
    return tuple(rows)


def _length_bias(counts: OutcomeCounts, *, num_points: int) -> LengthBias | None:
    shortest, longest = min(counts.lengths), max(counts.lengths)
    return None if shortest == longest else length_bias(shortest, longest, num_points=num_points)


def length_bias(short: float, long: float, *, num_points: int = 49) -> LengthBias:
    """Return what length does to two outcomes, for k from 0 to one and a half times the longer length.

    Args:
        short: T of the shorter outcome in tokens, at least 1.
        long: T of the longer one.
        num_points: Points of each curve.
    """
    k = (0.0, *np.linspace(0, 1.5 * long, num_points)[1:].tolist())

    def short_prob(share: float, k: float, weighting: Weighting) -> float:
        transform = BoxCox(k)
        lengths = [short, long]
        best = optimal_distribution([share, 1 - share], transform, lengths=lengths, weighting=weighting)
        return float(best.probs[0])

    def break_even(k: float, weighting: Weighting) -> float:
        # The short one's mass rises with its share, so that one change is all there is.
        found = find_switches(
            lambda share: short_prob(share, k, weighting) > 0.5, low=1e-3, high=1 - 1e-3, num_points=2, tolerance=5e-4
        )
        return found[0].k

    return LengthBias(
        short=short,
        long=long,
        k=k,
        share=_SHORT_SHARE,
        short_prob={w: tuple(short_prob(_SHORT_SHARE, value, w) for value in k) for w in WEIGHTINGS},
        break_even={w: tuple(break_even(value, w) for value in k) for w in WEIGHTINGS},
    )
