"""The results table of a report: scores with their intervals drawn, and p-values against the first row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.evaluation.tables import (
    MISSING,
    SIGNIFICANT,
    against_first_row,
    diagnostic_columns,
    find_comparison,
    metric_cell,
    metric_heading,
    metric_names,
)


@dataclass(frozen=True)
class Bar:
    """A bar with a tick, in percent of the width that there is.

    Args:
        left: Where the bar begins.
        width: Its width.
        tick: Where the tick is.
        is_thin: Whether the tick is a thin one.
    """

    left: float
    width: float
    tick: float
    is_thin: bool = False


@dataclass(frozen=True)
class ScoreCell:
    """A cell of a results table; what is empty is not shown.

    Args:
        score: The score.
        interval: Its 95% interval.
        bar: The interval, or the length ratio, as a picture.
        p_value: The p-value against the first row.
        is_best: Whether this is the best score of its column.
        is_significant: Whether the p-value is small.
    """

    score: str
    interval: str = ""
    bar: Bar | None = None
    p_value: str = ""
    is_best: bool = False
    is_significant: bool = False


@dataclass(frozen=True)
class DataTable:
    """The results on one data set.

    Args:
        data: Name of the data set.
        num_sentences: How many sentences it has; several numbers if the systems differ.
        headings: Headings of the columns.
        rows: Name and cells of every system.
    """

    data: str
    num_sentences: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[ScoreCell]]]


def data_tables(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> list[DataTable]:
    """Return one table for each data set."""
    comparisons = against_first_row(results, comparisons)
    by_data: dict[str, list[EvaluationResult]] = {}
    for result in results:
        by_data.setdefault(result.data, []).append(result)
    return [_data_table(data, rows, comparisons) for data, rows in by_data.items()]


def results_note(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> str:
    """Return how to read the tables."""
    sentences = ["Arrows point to better; the best score of a column is marked."]
    intervals = [interval for result in results for interval in result.intervals.values()]
    if intervals:
        sentences.append(
            f"Brackets and bars: 95% bootstrap interval ({intervals[0].num_resamples:,} resampled corpora)."
        )
    if against_first_row(results, comparisons):
        sentences.append(
            "p: two-sided paired bootstrap against the first row; "
            f"in bold below {SIGNIFICANT}. It knows about sentences, not about seeds: one training run is an anecdote."
        )
    if any(result.confidence for result in results):
        sentences.append("Output NLL: −log p(output) in nats; small means confident.")
    return " ".join(sentences)


def metric_signatures(results: Sequence[EvaluationResult]) -> list[str]:
    """Return what reproduces the scores, each signature once."""
    metrics = [metric for result in results for metric in result.metrics.values() if metric.signature]
    return list(dict.fromkeys(f"{metric.name}|{metric.signature}" for metric in metrics))


def _data_table(data: str, results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> DataTable:
    names = metric_names(results)
    diagnostics = diagnostic_columns(results)
    headings = ["system", *(metric_heading(name, results) for name in names), *(heading for heading, _ in diagnostics)]
    columns = [_metric_column(name, results, comparisons) for name in names]
    columns += [_diagnostic_column(heading, cell, results) for heading, cell in diagnostics]
    counts = sorted({result.num_sentences for result in results})
    return DataTable(
        data=data,
        num_sentences=" / ".join(f"{count:,}" for count in counts),
        # An arrow stays on the line of the word before it.
        headings=[re.sub(r" (?=[↑↓])", "\N{NO-BREAK SPACE}", heading) for heading in headings],
        rows=[(result.system, [column[index] for column in columns]) for index, result in enumerate(results)],
    )


def _metric_column(
    name: str, results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]
) -> list[ScoreCell]:
    """Return the cells of a metric; the intervals share one scale, so that their bars compare."""
    ends = [end for result in results for end in _ends(result, name) if math.isfinite(end)]
    best = _best(name, results)
    cells = []
    for result in results:
        cell = metric_cell(result, name, comparisons)
        bootstrap = find_comparison(result, name, comparisons)
        cells.append(
            ScoreCell(
                score=cell.score,
                interval=cell.interval,
                bar=_interval_bar(result, name, min(ends), max(ends)) if ends else None,
                p_value=cell.p_value,
                is_best=result is best,
                is_significant=bootstrap is not None and bootstrap.p_value < SIGNIFICANT,
            )
        )
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


def _interval_bar(result: EvaluationResult, name: str, low: float, high: float) -> Bar | None:
    """Return a bar for the interval on a scale from low to high, with a tick at the score."""
    interval = result.intervals.get(name)
    if interval is None or not math.isfinite(interval.high - interval.low) or high <= low:
        return None
    left, tick, right = (
        100 * (end - low) / (high - low) for end in (interval.low, result.metrics[name].score, interval.high)
    )
    return Bar(left=left, width=right - left, tick=tick)


def _diagnostic_column(
    heading: str, cell: Callable[[EvaluationResult], str], results: Sequence[EvaluationResult]
) -> list[ScoreCell]:
    """Return the cells of a column beside the metrics."""
    return [
        ScoreCell(
            score=cell(result) or MISSING, bar=_length_bar(result.length_ratio) if heading == "length ratio" else None
        )
        for result in results
    ]


def _length_bar(ratio: float) -> Bar | None:
    """Return a bar from 1 to the ratio, on a scale from three quarters to five quarters."""
    if not math.isfinite(ratio):
        return None
    end = 200 * (min(max(ratio, 0.75), 1.25) - 0.75)
    return Bar(left=min(end, 50), width=abs(end - 50), tick=50, is_thin=True)
