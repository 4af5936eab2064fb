"""Objectives that change over the course of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sharpseq.objectives.objective import Objective
from sharpseq.scoring.sequence_scores import SequenceScores


@dataclass(frozen=True)
class Annealed:
    """An objective whose parameter moves on a straight line; made by `annealed`."""

    make: Callable[[float], Objective]
    start: float
    end: float
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"`until` must be in (0, 1]; got {self.until}")

    def at(self, progress: float) -> Objective:
        """Return the objective at ``progress``, the share of the training's updates already made, in [0, 1]."""
        share = min(progress / self.until, 1.0)
        return self.make(self.start + share * (self.end - self.start))

    @property
    def needs_uniform(self) -> bool:
        """Whether the loss reads ``uniform_log_prob``."""
        return bool(getattr(self.at(1.0), "needs_uniform", False))

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss under the final objective, shape (B,)."""
        return self.at(1.0)(scores)


def annealed(make: Callable[[float], Objective], *, start: float, end: float, until: float = 1.0) -> Annealed:
    """Return an objective whose parameter goes linearly from ``start`` to ``end`` during training.

    Args:
        make: Builds the objective for one value of the parameter.
        start: The value at the first update.
        end: The value at the share ``until`` of all updates, and after it.
        until: Share of the training in (0, 1].

    Returns:
        An objective with ``at(progress)``; the trainer asks it before every update.

    Raises:
        ValueError: If ``until`` is outside (0, 1].

    Example:
        >>> from sharpseq import convex_composition, exponential
        >>> objective = annealed(lambda k: convex_composition(exponential(k, normalized=True)), start=0.0, end=4.0)
        >>> objective.at(0.5).transform
        Exponential(k=2.0, normalized=True)
    """
    return Annealed(make, start, end, until)
