"""One self-contained page about a set of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from numpy.typing import ArrayLike

from sharpseq.errors import UserError
from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.report.confidence_section import confidence_section
from sharpseq.evaluation.report.markup import Html, element, join
from sharpseq.evaluation.report.results_section import results_section
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
        recipe: The recipe as text.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If a logged row has no ``step``, or ``output_nll`` holds NaN.
    """
    sections = [
        results_section(results, comparisons) if results else "",
        confidence_section(output_nll or {}),
        training_section(runs),
        samples_section(samples),
        element("section", element("h2", "Recipe"), element("pre", recipe), id="recipe") if recipe.strip() else "",
        _settings_section(results),
    ]
    _replace(Path(path), _page(title, sections, results))


def _page(title: str, sections: Sequence[str], results: Sequence[EvaluationResult]) -> Html:
    """Return the whole document."""
    style = Html((files("sharpseq.evaluation.report") / "page.css").read_text(encoding="utf-8"))
    head = element(
        "head", Html('<meta charset="utf-8">'), _viewport(), element("title", title), element("style", style)
    )
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    version = next((f" {result.versions['sharpseq']}" for result in results if "sharpseq" in result.versions), "")
    header = element("header", element("h1", title), element("p", f"sharpseq{version} · {written}"))
    body = element("body", header, element("main", *sections))
    return join(Html("<!doctype html>\n"), element("html", head, body, lang="en"), Html("\n"))


def _viewport() -> Html:
    return Html('<meta name="viewport" content="width=device-width, initial-scale=1">')


def _settings_section(results: Sequence[EvaluationResult]) -> Html:
    """Return how every system was decoded, and with which versions."""
    lines = [
        (result.system, ", ".join(f"{key} {value}" for key, value in result.decoder_settings.items()))
        for result in results
    ]
    lines += [
        (
            f"{result.system}, batch {entry.batch_size}",
            _speed(entry.milliseconds_low, entry.milliseconds_high, entry.num_threads),
        )
        for result in results
        for entry in result.speed
    ]
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in result.versions.items()) for result in results
    )
    lines += [("versions", line) for line in versions]
    rows = [
        element("tr", element("th", name, scope="row"), element("td", line))
        for name, line in dict.fromkeys(lines)
        if line
    ]
    if not rows:
        return Html("")
    table = element("table", element("tbody", *rows), class_="settings")
    return element("section", element("h2", "Settings"), element("div", table, class_="scroll"), id="settings")


def _speed(low: float, high: float, num_threads: int) -> str:
    return f"{low:.3g} to {high:.3g} ms a sentence over the repetitions, {num_threads} threads"


def _replace(path: Path, text: str) -> None:
    """Write the file beside its place and move it there, so that no half report is ever seen."""
    try:
        write_whole_file(path, text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot write the report ({error.strerror}); give a writable place with free space"
        ) from error
