"""What a student may minimise at each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from sharpseq.divergences import Divergence
from sharpseq.objectives.distillation.distribution_pair import DistributionPair

TokenDistillation: TypeAlias = Divergence | Callable[[DistributionPair], Tensor]
"""A divergence, or anything that turns a `DistributionPair` into a number for each position, shape (N,).

A gradient reaches the student's log-probabilities only."""


def position_values(method: TokenDistillation, pair: DistributionPair) -> Tensor:
    """Return the number of each position, shape (N,), not reduced."""
    if isinstance(method, Divergence):
        return method.exact(target_logits=pair.target, model_logits=pair.model)
    return method(pair)
