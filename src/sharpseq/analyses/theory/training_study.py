"""What the way to the optimum is like: gradients against probability, and training from random starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sharpseq.analyses.theory.counts import OutcomeCounts
from sharpseq.analyses.theory.objectives_compared import MAXIMUM_LIKELIHOOD, Named
from sharpseq.objectives import Exponential, Identity
from sharpseq.theory import TrainingPlan, cures, log_gradient_norm, train_softmax, weights

GRADIENT_LENGTH, GRADIENT_VOCABULARY = 20, 6000
"""A sentence of 20 tokens of a vocabulary of 6000: at the start each token has the probability 1/6000."""

_NUM_UPDATES = 2000
_LEARNING_RATE = 4.0
_NUM_STARTS = 64
_NUM_CHOICES = 256
"""Outcomes that the model chooses from, those of the data among them."""
_MOST_TRAINED = 128


@dataclass(frozen=True)
class GradientCurve:
    """One objective against the probability of a sequence.

    Args:
        objective: Its name.
        weights: f'(g) for sequence probabilities of a sequence of length 1, as in the paper's figure 3.
        log10_norms: Logarithm to base 10 of the gradient norm with respect to the logits.
    """

    objective: str
    weights: tuple[float, ...]
    log10_norms: tuple[float, ...]


@dataclass(frozen=True)
class GradientStudy:
    """Gradients of all objectives.

    Args:
        probs: Where the weights are taken.
        length: T of the sequence whose norms are taken.
        vocab_size: V of the model.
        log10_probs: Logarithm to base 10 of p where the norms are taken, from guessing to nearly sure.
        curves: One for each objective.
    """

    probs: tuple[float, ...]
    length: int
    vocab_size: int
    log10_probs: tuple[float, ...]
    curves: tuple[GradientCurve, ...]


@dataclass(frozen=True)
class Course:
    """Training under one schedule, from all starts.

    Args:
        name: Of the schedule.
        updates: Where distances were taken.
        median_distance: Median over the starts of the total variation distance to the optimum.
        share_arrived: Share of the starts that arrived.
        share_elsewhere: Share that learned the data but ended somewhere else: late, or in a trap.
        share_starved: Share that never learned the data.
        median_updates: Median number of updates of those that arrived.
    """

    name: str
    updates: tuple[int, ...]
    median_distance: tuple[float, ...]
    share_arrived: float
    share_elsewhere: float
    share_starved: float
    median_updates: float | None


@dataclass(frozen=True)
class TrainingStudy:
    """All schedules for one k.

    Args:
        name: Of the data.
        k: Sharpness of the goal.
        num_outcomes: Outcomes of the data.
        num_choices: Outcomes that the model chooses from.
        num_starts: Random starts.
        num_updates: Updates of each.
        learning_rate: Of gradient descent.
        tolerance: Total variation distance at which a start has arrived.
        courses: One for each schedule.
    """

    name: str
    k: float
    num_outcomes: int
    num_choices: int
    num_starts: int
    num_updates: int
    learning_rate: float
    tolerance: float
    courses: tuple[Course, ...]


def study_gradients(objectives: Sequence[Named]) -> GradientStudy:
    """Return weights and gradient norms of objectives, and of the plain convex function p, which is e^{Tg}."""
    probs = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    length, vocab_size = GRADIENT_LENGTH, GRADIENT_VOCABULARY
    guess = -length * math.log(vocab_size)
    x = torch.linspace(guess, -1e-2, 200, dtype=torch.float64)
    curves = []
    for name, transform in objectives:
        norms = log_gradient_norm(transform, x, length=length, vocab_size=vocab_size) / math.log(10)
        curves.append(GradientCurve(name, tuple(weights(transform, probs).tolist()), tuple(norms.tolist())))
    plain = log_gradient_norm(Exponential(length), x, length=length, vocab_size=vocab_size) / math.log(10)
    curves.append(GradientCurve("the probability itself", tuple(probs.tolist()), tuple(plain.tolist())))
    return GradientStudy(tuple(probs.tolist()), length, vocab_size, tuple((x / math.log(10)).tolist()), tuple(curves))


def study_training(counts: OutcomeCounts, k: float, *, tolerance: float = 0.05) -> TrainingStudy:
    """Train a softmax towards the optimum of e^{kg}, in every way that `cures` knows, and with maximum likelihood."""
    p_data, lengths = counts.p_data[:_MOST_TRAINED], counts.lengths[:_MOST_TRAINED]
    total = math.fsum(p_data)
    p_data = tuple(p / total for p in p_data)
    num_choices = max(_NUM_CHOICES, 2 * len(p_data))
    likelihood = TrainingPlan(MAXIMUM_LIKELIHOOD[0], Identity())
    courses = []
    for schedule in (likelihood, *cures(k)):
        course = train_softmax(
            p_data,
            Identity() if schedule is likelihood else Exponential(k),
            schedule,
            num_updates=_NUM_UPDATES,
            learning_rate=_LEARNING_RATE,
            lengths=lengths,
            num_unseen=num_choices - len(p_data),
            num_starts=_NUM_STARTS,
            tolerance=tolerance,
        )
        courses.append(
            Course(
                name=course.name,
                updates=tuple(course.updates.tolist()),
                median_distance=tuple(course.distances.quantile(0.5, dim=1).tolist()),
                share_arrived=course.share_arrived,
                share_elsewhere=course.share_elsewhere,
                share_starved=course.share_starved,
                median_updates=course.median_updates,
            )
        )
    return TrainingStudy(
        counts.name,
        k,
        len(p_data),
        num_choices,
        _NUM_STARTS,
        _NUM_UPDATES,
        _LEARNING_RATE,
        tolerance,
        tuple(courses),
    )
