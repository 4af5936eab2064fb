"""Scoring outputs: metrics, significance, confidence, speed, tables and the report."""

from __future__ import annotations

from sharpseq.evaluation.comparison import Comparison, compare_systems
from sharpseq.evaluation.confidence import ConfidenceReport, measure_confidence, output_nll_per_token
from sharpseq.evaluation.machine import describe_machine
from sharpseq.evaluation.measurement import Measurement, Metric, MetricResult
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import METRICS, check_metric, measure
from sharpseq.evaluation.report import (
    OutputSample,
    TrainingRun,
    differing_positions,
    evenly_spaced,
    write_report,
)
from sharpseq.evaluation.results import EvaluationResult, evaluate_outputs
from sharpseq.evaluation.significance import (
    BootstrapInterval,
    PairedBootstrap,
    bootstrap_interval,
    paired_bootstrap,
)
from sharpseq.evaluation.speed import SpeedResult, measure_latency
from sharpseq.evaluation.systems import evaluate_system
from sharpseq.evaluation.tables import markdown_table, results_table, summary_table
from sharpseq.evaluation.verdict import verdict
from sharpseq.evaluation.versions import installed_versions

__all__ = [
    "METRICS",
    "BootstrapInterval",
    "Comparison",
    "ConfidenceReport",
    "EvaluationResult",
    "Measurement",
    "Metric",
    "MetricResult",
    "MetricSpec",
    "OutputSample",
    "PairedBootstrap",
    "SpeedResult",
    "TrainingRun",
    "bootstrap_interval",
    "check_metric",
    "compare_systems",
    "describe_machine",
    "differing_positions",
    "evaluate_outputs",
    "evaluate_system",
    "evenly_spaced",
    "installed_versions",
    "markdown_table",
    "measure",
    "measure_confidence",
    "measure_latency",
    "output_nll_per_token",
    "paired_bootstrap",
    "results_table",
    "summary_table",
    "verdict",
    "write_report",
]
