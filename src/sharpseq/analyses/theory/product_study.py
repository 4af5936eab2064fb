"""What models that choose tokens on their own can do with several outputs: factorised models and CTC."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharpseq.analyses.theory.counts import OutcomeCounts, outcome_counts
from sharpseq.analyses.theory.objectives_compared import Named
from sharpseq.objectives import BoxCox, Transform
from sharpseq.theory import CtcOptimum, FactorisedOptimum, find_switches, optimal_ctc, optimal_factorised

RESOLVED = 0.01
"""Outputs that do not occur in the data have less than this together: modes are no longer mixed."""

_MOST_OUTCOMES = 50
_MOST_PATHS = 5000
_MOST_SHOWN = 6
_STARTS_OF_CURVES = 8

TWO_MODES = outcome_counts([("thank you", 60, 2), ("many thanks", 40, 2)], name="two modes")
THREE_MODES = outcome_counts(
    [("thank you", 40, 2), ("much obliged", 32, 2), ("much appreciated", 28, 2)], name="three modes, a word in common"
)
OPTIONAL_WORD = outcome_counts([("thanks", 60, 1), ("many thanks", 40, 2)], name="a word more or less")
"""Made up, all of them."""


@dataclass(frozen=True)
class Output:
    """An output of a model.

    Args:
        text: The output.
        prob: Its probability.
        seen: Whether it occurs in the data.
    """

    text: str
    prob: float
    seen: bool


@dataclass(frozen=True)
class ProductRow:
    """The best that one kind of model can do under one objective.

    Args:
        objective: Its name.
        outputs: The most probable outputs.
        unseen_mass: Probability of all outputs together that do not occur in the data.
        loss: The loss, in units of f.
        gap: No such model has a loss lower by more than this; 0 is a proof, more need not mean anything.
        share_of_starts: Share of the starts that found this optimum.
    """

    objective: str
    outputs: tuple[Output, ...]
    unseen_mass: float
    loss: float
    gap: float
    share_of_starts: float


@dataclass(frozen=True)
class OutputSwitch:
    """A k at which the most probable output changes.

    Args:
        k: Where, within 1e-3.
        before: The most probable output below.
        after: The one above.
    """

    k: float
    before: str
    after: str


@dataclass(frozen=True)
class ProductStudy:
    """One kind of model on one set of outputs.

    Args:
        name: Of the outputs.
        model: ``"factorised"``, or ``"CTC"`` with its number of frames.
        outcomes: The outputs of the data.
        p_data: Their shares.
        rows: One for each objective.
        k: Of the curve, rising, and dense where something changes; 0 is maximum likelihood.
        unseen_mass: At each k.
        switches: Where the most probable output changes.
        resolved_at: The k from which on outputs that do not occur have less than 1 % together; none if there is none.
    """

    name: str
    model: str
    outcomes: tuple[str, ...]
    p_data: tuple[float, ...]
    rows: tuple[ProductRow, ...]
    k: tuple[float, ...]
    unseen_mass: tuple[float, ...]
    switches: tuple[OutputSwitch, ...]
    resolved_at: float | None


def study_factorised(counts: OutcomeCounts, objectives: Sequence[Named], *, num_points: int = 41) -> ProductStudy:
    """Return what a factorised model does with outputs of one length in words."""
    words = [tuple(outcome.split()) for outcome in counts.outcomes]

    def best(transform: Transform, num_starts: int) -> FactorisedOptimum:
        return optimal_factorised(words, counts.p_data, transform, num_starts=num_starts)

    return _study(counts, objectives, best, model="factorised", highest=float(len(words[0])), num_points=num_points)


def study_ctc(
    counts: OutcomeCounts, objectives: Sequence[Named], *, num_frames: int, num_points: int = 17
) -> ProductStudy:
    """Return what CTC does with outputs that may differ in length."""
    words = [tuple(outcome.split()) for outcome in counts.outcomes]

    def best(transform: Transform, num_starts: int) -> CtcOptimum:
        return optimal_ctc(words, counts.p_data, transform, num_frames=num_frames, num_starts=num_starts)

    highest = float(max(map(len, words)))
    return _study(counts, objectives, best, model=f"CTC, {num_frames} frames", highest=highest, num_points=num_points)


def of_one_length(counts: OutcomeCounts) -> OutcomeCounts | None:
    """Return the most frequent outcomes of the one length in words that occurs most; none if that is a single one.

    A factorised model predicts the length first, and is then asked for an output of that length.
    """
    shares: dict[int, float] = {}
    for outcome, count in zip(counts.outcomes, counts.counts, strict=True):
        shares[len(outcome.split())] = shares.get(len(outcome.split()), 0.0) + count
    for length in sorted(shares, key=lambda length: -shares[length]):
        rows = [row for row in _rows(counts) if len(row[0].split()) == length][:_MOST_OUTCOMES]
        if len(rows) > 1:
            return outcome_counts(rows, name=f"{counts.name}, {length} word{'s' if length > 1 else ''}")
    return None


def for_ctc(counts: OutcomeCounts) -> tuple[OutcomeCounts, int] | None:
    """Return as many of the most frequent outcomes as can be enumerated, and a number of frames; none below two."""
    rows, chosen = _rows(counts), None
    for num_kept in range(2, min(len(rows), _MOST_OUTCOMES) + 1):
        kept = [row[0].split() for row in rows[:num_kept]]
        num_frames = 1 + max(len(words) + sum(a == b for a, b in itertools.pairwise(words)) for words in kept)
        if (1 + len({word for words in kept for word in words})) ** num_frames > _MOST_PATHS:
            break
        chosen = outcome_counts(rows[:num_kept], name=counts.name), num_frames
    return chosen


def _rows(counts: OutcomeCounts) -> list[tuple[str, float, float]]:
    return list(zip(counts.outcomes, counts.counts, counts.lengths, strict=True))


def _study(
    counts: OutcomeCounts,
    objectives: Sequence[Named],
    best: Callable[[Transform, int], FactorisedOptimum | CtcOptimum],
    *,
    model: str,
    highest: float,
    num_points: int,
) -> ProductStudy:
    described: dict[float, FactorisedOptimum | CtcOptimum] = {}

    def at(value: float) -> FactorisedOptimum | CtcOptimum:
        found = described.get(value) or best(BoxCox(value), _STARTS_OF_CURVES)
        described[value] = found
        return found

    outputs = find_switches(
        lambda value: " ".join(at(value).best_output), low=0.0, high=highest, num_points=num_points, tolerance=1e-3
    )
    resolved = find_switches(
        lambda value: at(value).unseen_mass < RESOLVED, low=0.0, high=highest, num_points=num_points, tolerance=1e-3
    )
    # Bisection has looked closely where something changes; the curve has these points, too.
    k = tuple(sorted(described))
    unseen = tuple(described[value].unseen_mass for value in k)
    return ProductStudy(
        name=counts.name,
        model=model,
        outcomes=counts.outcomes,
        p_data=counts.p_data,
        rows=tuple(_row(name, best(transform, 4 * _STARTS_OF_CURVES), counts) for name, transform in objectives),
        k=k,
        unseen_mass=unseen,
        switches=tuple(OutputSwitch(switch.k, switch.before, switch.after) for switch in outputs),
        resolved_at=_resolved_at(unseen, [switch.k for switch in resolved]),
    )


def _resolved_at(unseen_mass: Sequence[float], changes: Sequence[float]) -> float | None:
    if unseen_mass[-1] >= RESOLVED:
        return None
    return changes[-1] if changes else 0.0


def _row(name: str, found: FactorisedOptimum | CtcOptimum, counts: OutcomeCounts) -> ProductRow:
    seen = set(counts.outcomes)
    texts = [(" ".join(words), prob) for words, prob in found.outputs(num_most=_MOST_SHOWN).items()]
    return ProductRow(
        objective=name,
        outputs=tuple(Output(text, prob, text in seen) for text, prob in texts),
        unseen_mass=found.unseen_mass,
        loss=found.loss,
        gap=found.gap,
        share_of_starts=found.share,
    )
