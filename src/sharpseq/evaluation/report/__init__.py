"""The report: results, confidence, curves, samples and recipe in one self-contained HTML file."""

from __future__ import annotations

from sharpseq.evaluation.report.page import write_report
from sharpseq.evaluation.report.sample_choice import differing_positions, evenly_spaced
from sharpseq.evaluation.report.samples_section import OutputSample
from sharpseq.evaluation.report.training_curves import TrainingRun

__all__ = ["OutputSample", "TrainingRun", "differing_positions", "evenly_spaced", "write_report"]
