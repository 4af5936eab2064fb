"""The results table of a report: scores with their intervals drawn, and p-values against the first row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.report.markup import Html, element, join
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.evaluation.tables import (
    MISSING,
    against_first_row,
    diagnostic_columns,
    find_comparison,
    metric_cell,
    metric_heading,
    metric_names,
)

_SIGNIFICANT = 0.05


def results_section(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> Html:
    """Return the section: one table per data set, and a note that says how to read it."""
    comparisons = against_first_row(results, comparisons)
    by_data: dict[str, list[EvaluationResult]] = {}
    for result in results:
        by_data.setdefault(result.data, []).append(result)
    tables = [_data_table(data, rows, comparisons) for data, rows in by_data.items()]
    return element("section", element("h2", "Results"), *tables, _note(results, comparisons), id="results")


def _data_table(data: str, results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> Html:
    """Return the table of one data set."""
    names = metric_names(results)
    diagnostics = diagnostic_columns(results)
    headings = ["system", *(metric_heading(name, results) for name in names), *(heading for heading, _ in diagnostics)]
    head = element("tr", *(_heading(heading) for heading in headings))
    columns = [_metric_column(name, results, comparisons) for name in names]
    columns += [_diagnostic_column(heading, cell, results) for heading, cell in diagnostics]
    rows = [
        element("tr", element("th", result.system, scope="row"), *(column[index] for column in columns))
        for index, result in enumerate(results)
    ]
    counts = sorted({result.num_sentences for result in results})
    caption = element(
        "caption", element("strong", data), f" · {' / '.join(f'{count:,}' for count in counts)} sentences"
    )
    table = element("table", caption, element("thead", head), element("tbody", *rows), class_="results")
    return element("div", table, class_="scroll")


def _heading(heading: str) -> Html:
    """Return the head of a column, its arrow kept on the line of the word before."""
    return element("th", re.sub(r" (?=[↑↓])", "\N{NO-BREAK SPACE}", heading), scope="col")


def _metric_column(name: str, results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> list[Html]:
    """Return the cells of a metric; the intervals share one scale, so that their bars compare."""
    ends = [end for result in results for end in _ends(result, name) if math.isfinite(end)]
    best = _best(name, results)
    cells = []
    for result in results:
        cell = metric_cell(result, name, comparisons)
        bootstrap = find_comparison(result, name, comparisons)
        significant = bootstrap is not None and bootstrap.p_value < _SIGNIFICANT
        number = element("span", cell.score, class_="score best" if result is best else "score")
        details = element("span", cell.interval, class_="interval") if cell.interval else ""
        bar = _interval_bar(result, name, min(ends), max(ends)) if ends else ""
        p_value = element("span", cell.p_value, class_="p significant" if significant else "p") if cell.p_value else ""
        cells.append(element("td", number, details, bar, p_value))
    return cells


def _ends(result: EvaluationResult, name: str) -> list[float]:
    interval = result.intervals.get(name)
    return [] if interval is None else [interval.low, interval.high]


def _best(name: str, results: Sequence[EvaluationResult]) -> EvaluationResult | None:
    """Return the result with the best score; None for a single result or a metric without a direction."""
    scored = [result for result in results if name in result.metrics and math.isfinite(result.metrics[name].score)]
    direction = scored[0].metrics[name].higher_is_better if len(scored) > 1 else None
    if direction is None:
        return None
    return (max if direction else min)(scored, key=lambda result: result.metrics[name].score)


def _interval_bar(result: EvaluationResult, name: str, low: float, high: float) -> Html:
    """Return a bar for the interval on a scale from low to high, with a tick at the score."""
    interval = result.intervals.get(name)
    if interval is None or not math.isfinite(interval.high - interval.low) or high <= low:
        return Html("")
    left, middle, right = (
        100 * (end - low) / (high - low) for end in (interval.low, result.metrics[name].score, interval.high)
    )
    band = element("i", style=f"left:{left:.1f}%;width:{right - left:.1f}%")
    return element("span", band, element("b", style=f"left:{middle:.1f}%"), class_="bar", aria_hidden="true")


def _diagnostic_column(
    heading: str, cell: Callable[[EvaluationResult], str], results: Sequence[EvaluationResult]
) -> list[Html]:
    """Return the cells of a column beside the metrics."""
    cells = []
    for result in results:
        bar = _length_bar(result.length_ratio) if heading == "length ratio" else ""
        cells.append(element("td", element("span", cell(result) or MISSING, class_="score"), bar))
    return cells


def _length_bar(ratio: float) -> Html:
    """Return a bar from 1 to the ratio, on a scale from three quarters to five quarters."""
    if not math.isfinite(ratio):
        return Html("")
    end = 200 * (min(max(ratio, 0.75), 1.25) - 0.75)
    band = element("i", style=f"left:{min(end, 50):.1f}%;width:{abs(end - 50):.1f}%")
    middle = element("b", style="left:50%", class_="tick")
    return element("span", band, middle, class_="bar", aria_hidden="true")


def _note(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> Html:
    """Return how to read the table and what reproduces the scores."""
    sentences = ["Arrows point to better; the best score of a column is marked."]
    intervals = [interval for result in results for interval in result.intervals.values()]
    if intervals:
        sentences.append(
            f"Brackets and bars: 95% bootstrap interval ({intervals[0].num_resamples:,} resampled corpora)."
        )
    if comparisons:
        sentences.append(
            "p: two-sided paired bootstrap against the first row; "
            f"in bold below {_SIGNIFICANT}. It knows about sentences, not about seeds: one training run is an anecdote."
        )
    if any(result.confidence for result in results):
        sentences.append("Output NLL: −log p(output) in nats; small means confident.")
    signatures = dict.fromkeys(
        (metric.name, metric.signature) for result in results for metric in result.metrics.values() if metric.signature
    )
    lines = [element("li", element("code", f"{name}|{signature}")) for name, signature in signatures]
    listed = element("ul", *lines, class_="signatures") if lines else ""
    return join(element("p", " ".join(sentences), class_="note"), listed)
