"""What a benchmark found: quality, speed, memory and size of every system, with where the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

from sharpseq.benchmarking.benchmark_run import Conditions, Measured
from sharpseq.benchmarking.measured_systems import System, files_of
from sharpseq.benchmarking.speeds import BatchSpeed, batch_speeds
from sharpseq.evaluation import (
    Comparison,
    EvaluationResult,
    compare_systems,
    describe_machine,
    evaluate_outputs,
    installed_versions,
)

FORMAT_VERSION = 1

TREATMENT = (
    "text to text, tokenisation and detokenisation on the clock; all systems get the same lines in the same batches, "
    "and each engine sorts the lines of a batch by length itself"
)
"""What happens on the clock, in words."""

ENGINE_PACKAGES = ("ctranslate2", "openvino")
"""Packages of engines, whose versions count beside those of sharpseq itself."""


@dataclass(frozen=True)
class SystemOutcome:
    """What was found about one system.

    Args:
        system: The system.
        settings: How it decoded.
        quality: Scores with signatures and intervals, on all sentences; None where no metric was asked for.
        speeds: Its speed at each batch size.
        peak_bytes: Peak of the resident memory of its process, libraries included, over all turns; None if unknown.
        disk_bytes: Size of its files; None for a model of the Hub.
        start_seconds: From the start of its process until it was ready, imports included, median over the rounds.
    """

    system: System
    settings: dict[str, Any]
    quality: EvaluationResult
    speeds: tuple[BatchSpeed, ...]
    peak_bytes: int | None
    disk_bytes: int | None
    start_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Args:
        systems: The systems, the baseline first if there is one.
        comparisons: Quality of each against the baseline.
        baseline: Name of the system whose time others are compared with; None where no speed-up is stated.
        no_rival: Why the baseline is not the strongest rival there is; None if it is.
        conditions: What all systems shared.
        num_timed: How many sentences were timed.
        load_averages: Smallest and largest load of the whole machine before a turn.
        measured: All that was measured.
    """

    systems: tuple[SystemOutcome, ...]
    comparisons: tuple[Comparison, ...]
    baseline: str | None
    no_rival: str | None
    conditions: Conditions
    num_timed: int
    load_averages: tuple[float, float]
    measured: Measured

    def to_json(self, *, command: str) -> str:
        """Return everything as JSON.

        Args:
            command: The command that repeats the measurement.
        """
        document = {
            "format_version": FORMAT_VERSION,
            "provenance": {
                "command": command,
                "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
                "machine": describe_machine(),
                "versions": installed_versions(*ENGINE_PACKAGES),
            },
            "conditions": {**asdict(self.conditions), "num_timed": self.num_timed, "treatment": TREATMENT},
            "load_averages": self.load_averages,
            "baseline": self.baseline,
            "no_rival": self.no_rival,
            "systems": [_system_json(each) for each in self.systems],
            "comparisons": [asdict(each) for each in self.comparisons],
            "rounds": [asdict(each) for each in self.measured.rounds],
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def outcome_of(
    systems: Sequence[System],
    measured: Measured,
    conditions: Conditions,
    *,
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    data: str,
    baseline: str | None,
    no_rival: str | None,
) -> Outcome:
    """Gather what was found.

    Args:
        systems: The systems, the baseline first if there is one.
        measured: What `run_benchmark` returned.
        conditions: What all systems shared.
        references: The references of every sentence.
        metrics: Names of metrics.
        data: Name of the data.
        baseline: See `Outcome`.
        no_rival: See `Outcome`.
    """
    texts = {system.name: measured.written[system.name].texts for system in systems}
    compared = baseline is not None and len(systems) > 1
    comparisons = compare_systems(texts, references, metrics=metrics, data=data) if compared else []
    loads = [turn.load_average for each in measured.rounds for turn in each.turns]
    return Outcome(
        tuple(
            _system_outcome(system, measured, references=references, metrics=metrics, data=data, baseline=baseline)
            for system in systems
        ),
        tuple(comparisons),
        baseline,
        no_rival,
        conditions,
        len(measured.sentences),
        (min(loads), max(loads)),
        measured,
    )


def _system_outcome(
    system: System,
    measured: Measured,
    *,
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    data: str,
    baseline: str | None,
) -> SystemOutcome:
    written = measured.written[system.name]
    peaks = [turn.peak_bytes for each in measured.rounds for turn in each.turns if turn.system == system.name]
    known_peaks = [peak for peak in peaks if peak is not None]
    speeds = batch_speeds(
        measured.rounds,
        system.name,
        num_sentences=len(measured.sentences),
        baseline=None if baseline == system.name else baseline,
    )
    return SystemOutcome(
        system=system,
        settings=written.settings,
        quality=evaluate_outputs(
            written.texts,
            references,
            metrics=metrics,
            system=system.name,
            data=data,
            num_too_long=sum(error is not None for error in written.errors),
            decoder_settings=written.settings,
        ),
        speeds=tuple(speeds),
        peak_bytes=max(known_peaks, default=None),
        disk_bytes=sum(file.stat().st_size for file in files_of(system)) or None,
        start_seconds=median(each.start_seconds[system.name] for each in measured.rounds),
    )


def _system_json(outcome: SystemOutcome) -> dict[str, Any]:
    return {**asdict(outcome), "quality": json.loads(outcome.quality.to_json())}
