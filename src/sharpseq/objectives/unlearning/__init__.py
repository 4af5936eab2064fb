"""Unlearning: what is done to the answers that a model is to forget."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives.unlearning.answer_scores import (
    AnswerScores,
    UnlearningMethod,
    mean_token_probability,
    rows_of,
)
from sharpseq.objectives.unlearning.datamodels import (
    leave_one_out_scores,
    matching_loss,
    outputs_without,
    ridge_leave_one_out_scores,
)
from sharpseq.objectives.unlearning.flat import Flat
from sharpseq.objectives.unlearning.gradient_ascent import GradientAscent
from sharpseq.objectives.unlearning.margin_histograms import klom, klom_floor, margins
from sharpseq.objectives.unlearning.negative_preference import NegativePreference

__all__ = [
    "UNLEARNING_METHODS",
    "AnswerScores",
    "Flat",
    "GradientAscent",
    "NegativePreference",
    "UnlearningMethod",
    "klom",
    "klom_floor",
    "leave_one_out_scores",
    "margins",
    "matching_loss",
    "mean_token_probability",
    "outputs_without",
    "ridge_leave_one_out_scores",
    "rows_of",
]

UNLEARNING_METHODS: Mapping[str, type[Method]] = method_table(Flat, GradientAscent, NegativePreference)
"""What can be done to the answers to forget, by name."""
