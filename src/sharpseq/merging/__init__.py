"""Merging: one model from several that were fine-tuned from the same weights."""

from sharpseq.merging.merge_card import in_nats
from sharpseq.merging.merge_models import LEVELS, METHODS, MergeReport, MergeSettings, merge_models
from sharpseq.merging.merged_model import MergedModel
from sharpseq.merging.output_divergence import DIVERGENCES

__all__ = ["DIVERGENCES", "LEVELS", "METHODS", "MergeReport", "MergeSettings", "MergedModel", "in_nats", "merge_models"]
