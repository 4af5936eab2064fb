"""The role of a method that compares a teacher with a student position by position."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sharpseq.objectives.distillation.distribution_pair import DistributionPair


class TokenDistillation(Protocol):
    """Anything that turns a `DistributionPair` into a number for each position, shape (N,), not reduced.

    A gradient reaches the student's log-probabilities only.
    """

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position."""
        ...
