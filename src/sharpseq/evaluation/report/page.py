"""One self-contained page about a set of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from numpy.typing import ArrayLike

from sharpseq.errors import UserError
from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.report.confidence_section import confidence_section
from sharpseq.evaluation.report.page_templates import render_page
from sharpseq.evaluation.report.results_section import data_tables, metric_signatures, results_note
from sharpseq.evaluation.report.samples_section import OutputSample, samples_section
from sharpseq.evaluation.report.training_curves import TrainingRun
from sharpseq.evaluation.report.training_section import training_section
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.whole_files import write_whole_file


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    runs: Sequence[TrainingRun] = (),
    results: Sequence[EvaluationResult] = (),
    comparisons: Sequence[Comparison] = (),
    output_nll: Mapping[str, ArrayLike] | None = None,
    samples: Sequence[OutputSample] = (),
    samples_note: str = "",
    verdict: str = "",
    recipe: str = "",
) -> None:
    """Write a report as one HTML file that needs nothing else: no network, no script, no other file.

    What is empty is left out. A report that exists already is replaced in one step.

    Args:
        path: The file to write.
        title: Heading of the page.
        runs: What training logged.
        results: The systems; put the baseline of ``comparisons`` first.
        comparisons: What :func:`sharpseq.evaluation.compare_systems` returned.
        output_nll: -log p(output) / T in nats per token of every output, by name of the system; see
            :func:`sharpseq.evaluation.output_nll_per_token`.
        samples: Sentences to show with the output of every system.
        samples_note: How these sentences were chosen.
        verdict: What the results mean, in a sentence.
        recipe: The recipe as text.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If a logged row has no ``step``, or ``output_nll`` holds NaN.
    """
    version = next((f" {result.versions['sharpseq']}" for result in results if "sharpseq" in result.versions), "")
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page = render_page(
        "report.html",
        title=title,
        subtitle=f"sharpseq{version} · {written}",
        tables=data_tables(results, comparisons),
        results_note=results_note(results, comparisons),
        signatures=metric_signatures(results),
        confidence=confidence_section(output_nll or {}),
        training=training_section(runs),
        samples=samples_section(samples),
        samples_note=samples_note,
        verdict=verdict,
        recipe=recipe,
        settings=_settings(results),
    )
    try:
        write_whole_file(Path(path), page)
    except OSError as error:
        raise UserError(
            f"{path}: cannot write the report ({error.strerror}); choose a writable place with free space"
        ) from error


def _settings(results: Sequence[EvaluationResult]) -> list[tuple[str, str]]:
    """Return how every system was decoded, how its speed varied, and the versions, each line once."""
    lines = [
        (result.system, ", ".join(f"{key} {value}" for key, value in result.decoder_settings.items()))
        for result in results
    ]
    lines += [
        (
            f"{result.system}, batch {entry.batch_size}",
            f"{entry.milliseconds_low:.3g} to {entry.milliseconds_high:.3g} ms a sentence over the repetitions, "
            f"{entry.num_threads} threads",
        )
        for result in results
        for entry in result.speed
    ]
    lines += [
        ("versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())) for result in results
    ]
    return [(name, line) for name, line in dict.fromkeys(lines) if line]
