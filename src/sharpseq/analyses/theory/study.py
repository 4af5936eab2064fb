"""A whole study: every question about given outcomes, or about the built-in examples, in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharpseq.analyses.theory.counts import VIELEN_DANK, OutcomeCounts
from sharpseq.analyses.theory.objectives_compared import Named, named_objectives
from sharpseq.analyses.theory.optimum_study import OptimumStudy, study_optima
from sharpseq.analyses.theory.product_study import (
    OPTIONAL_WORD,
    THREE_MODES,
    TWO_MODES,
    ProductStudy,
    for_ctc,
    of_one_length,
    study_ctc,
    study_factorised,
)
from sharpseq.analyses.theory.training_study import GradientStudy, TrainingStudy, study_gradients, study_training

NUM_QUESTIONS = 5
"""Number of questions whose end `study_theory` reports."""

_FRAMES = 3


@dataclass(frozen=True)
class ModeMixing:
    """CTC on a set of outputs, and the factorised model beside it where the outputs have one length."""

    ctc: ProductStudy
    factorised: ProductStudy | None


@dataclass(frozen=True)
class TheoryStudy:
    """The answers.

    Args:
        optima: Optimal distributions, their sharpening, and what length does.
        factorised: A factorised model on outputs of one length; none if no two outcomes have one.
        mixing: CTC and factorised models side by side; empty if nothing is small enough to be enumerated.
        gradients: Weights and gradient norms.
        training: Training from random starts, one for each k.
    """

    optima: OptimumStudy
    factorised: ProductStudy | None
    mixing: tuple[ModeMixing, ...]
    gradients: GradientStudy
    training: tuple[TrainingStudy, ...]


def study_theory(
    counts: OutcomeCounts | None = None,
    *,
    k: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
    powers: Sequence[float] = (0.5,),
    on_progress: Callable[[int], None] = lambda done: None,
) -> TheoryStudy:
    """Answer everything about some outcomes.

    Args:
        counts: The outcomes; the built-in examples when left out.
        k: Of the exponential objectives, each greater than 0.
        powers: Exponents of the power objectives, each in (0, 1].
        on_progress: Called with the number of questions answered, up to `NUM_QUESTIONS`.

    Raises:
        ValueError: If a k or an exponent is out of its range.
    """
    objectives = named_objectives(k, powers=powers)
    given = counts if counts is not None else VIELEN_DANK
    optima = study_optima(given, objectives)
    on_progress(1)
    one_length = THREE_MODES if counts is None else of_one_length(given)
    factorised = None if one_length is None else study_factorised(one_length, objectives)
    on_progress(2)
    mixing = tuple(_mixing(chosen, frames, objectives) for chosen, frames in _enumerable(counts))
    on_progress(3)
    gradients = study_gradients(objectives)
    rising = sorted(set(k))
    goals = sorted({rising[len(rising) // 2], rising[-1]}) if rising else []
    training = []
    for goal in goals:
        training.append(study_training(given, goal))
    on_progress(NUM_QUESTIONS)
    return TheoryStudy(optima, factorised, mixing, gradients, tuple(training))


def _enumerable(counts: OutcomeCounts | None) -> list[tuple[OutcomeCounts, int]]:
    if counts is None:
        return [(example, _FRAMES) for example in (TWO_MODES, THREE_MODES, OPTIONAL_WORD)]
    chosen = for_ctc(counts)
    return [] if chosen is None else [chosen]


def _mixing(counts: OutcomeCounts, num_frames: int, objectives: Sequence[Named]) -> ModeMixing:
    ctc = study_ctc(counts, objectives, num_frames=num_frames)
    one_length = len({len(outcome.split()) for outcome in counts.outcomes}) == 1
    return ModeMixing(ctc, study_factorised(counts, objectives) if one_length else None)
