"""Objectives: pure functions from sequence scores to a loss of each sequence."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.comp_sum import CompSum
from sharpseq.objectives.convex_composition import ConvexComposition
from sharpseq.objectives.expected_ngrams import ExpectedNgrams
from sharpseq.objectives.generalized_cross_entropy import GeneralizedCrossEntropy
from sharpseq.objectives.maximum_likelihood import MaximumLikelihood
from sharpseq.objectives.objective import Objective, needs_of, sequence_weights
from sharpseq.objectives.transforms import (
    TRANSFORMS,
    BoxCox,
    Exponential,
    Identity,
    Power,
    Transform,
    derivative,
)

__all__ = [
    "OBJECTIVES",
    "TRANSFORMS",
    "BoxCox",
    "CompSum",
    "ConvexComposition",
    "ExpectedNgrams",
    "Exponential",
    "GeneralizedCrossEntropy",
    "Identity",
    "MaximumLikelihood",
    "Objective",
    "Power",
    "Transform",
    "derivative",
    "needs_of",
    "sequence_weights",
]

OBJECTIVES: Mapping[str, type[Method]] = method_table(
    MaximumLikelihood, ConvexComposition, GeneralizedCrossEntropy, CompSum, ExpectedNgrams
)
"""Every objective of sequence scores by name; adding one is one file and one entry here (CONTRIBUTING.md)."""
