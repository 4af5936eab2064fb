"""Objectives: pure functions from sequence scores to a loss of each sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sharpseq.objectives.annealing import Annealed, annealed
from sharpseq.objectives.convex import ConvexComposition, convex_composition, maximum_likelihood
from sharpseq.objectives.objective import Objective, sequence_weights
from sharpseq.objectives.transforms import TRANSFORMS, Transform, derivative, exponential, identity, power

__all__ = [
    "OBJECTIVES",
    "TRANSFORMS",
    "Annealed",
    "ConvexComposition",
    "Objective",
    "ObjectiveSpec",
    "Transform",
    "annealed",
    "convex_composition",
    "derivative",
    "exponential",
    "identity",
    "maximum_likelihood",
    "power",
    "sequence_weights",
]


@dataclass(frozen=True)
class ObjectiveSpec:
    """A row of the table of objectives."""

    factory: Callable[..., Objective]
    description: str
    reference: str


OBJECTIVES: Mapping[str, ObjectiveSpec] = MappingProxyType(
    {
        "maximum_likelihood": ObjectiveSpec(
            maximum_likelihood, "-log p / T, label smoothed on request", "Szegedy et al. 2016 (label smoothing)"
        ),
        "convex_composition": ObjectiveSpec(
            convex_composition,
            "-f(log p / T) with f exponential, power or your own: sharpens the distribution",
            "Shao et al. 2023, Beyond MLE",
        ),
    }
)
