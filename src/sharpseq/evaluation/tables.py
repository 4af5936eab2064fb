"""Results as a table: for a terminal, and as markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.metrics import METRICS
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.evaluation.significance import PairedBootstrap

MISSING = "–"
SIGNIFICANT = 0.05
"""A p-value below this is marked."""
_MOST_SIDE_BY_SIDE = 2
_UNIT_MARKS = {"percent": " %"}
_ARROWS = {True: " ↑", False: " ↓", None: ""}


@dataclass(frozen=True)
class MetricCell:
    """What a table says about one system under one metric; parts that are unknown are empty.

    Args:
        score: The score.
        interval: Its 95% interval.
        p_value: The p-value against the first system.
    """

    score: str
    interval: str
    p_value: str


def metric_names(results: Sequence[EvaluationResult]) -> list[str]:
    """Return the names of all metrics in the results, in the order of their first appearance."""
    return list(dict.fromkeys(name for result in results for name in result.metrics))


def metric_heading(name: str, results: Sequence[EvaluationResult]) -> str:
    """Return the heading of a metric's column: name, unit, and an arrow that points to better."""
    direction = next(result.metrics[name].higher_is_better for result in results if name in result.metrics)
    unit = METRICS[name].unit if name in METRICS else ""
    return name.replace("_", " ") + _UNIT_MARKS.get(unit, "") + _ARROWS[direction]


def metric_cell(result: EvaluationResult, name: str, comparisons: Sequence[Comparison]) -> MetricCell:
    """Return what a table says about a system under a metric.

    Args:
        result: The system.
        name: The metric.
        comparisons: Where to look for the p-value; those of other systems, metrics or data are passed over.
    """
    if name not in result.metrics:
        return MetricCell(MISSING, "", "")
    decimals = 3 if name in METRICS and METRICS[name].unit == "ratio" else 2
    interval = result.intervals.get(name)
    ends = [] if interval is None else [format_number(end, decimals=decimals) for end in (interval.low, interval.high)]
    bootstrap = find_comparison(result, name, comparisons)
    return MetricCell(
        score=format_number(result.metrics[name].score, decimals=decimals),
        interval=f"[{', '.join(ends)}]" if ends else "",
        p_value="" if bootstrap is None else format_p_value(bootstrap.p_value),
    )


def against_first_row(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons whose baseline is the first result on their data: those that a table's rows can show."""
    first = {result.data: result.system for result in reversed(results)}
    return [comparison for comparison in comparisons if first.get(comparison.data) == comparison.baseline]


def find_comparison(result: EvaluationResult, name: str, comparisons: Sequence[Comparison]) -> PairedBootstrap | None:
    """Return the comparison of a system with its baseline under a metric, None if there is none."""
    for comparison in comparisons:
        if (comparison.system, comparison.metric, comparison.data) == (result.system, name, result.data):
            return comparison.bootstrap
    return None


def format_number(value: float | None, *, decimals: int, signed: bool = False) -> str:
    """Return the number with that many decimals; a dash if it is missing or undefined.

    Args:
        value: The number.
        decimals: Digits after the point.
        signed: Whether a number that is not negative gets a plus.

    Example:
        >>> format_number(-1.25, decimals=1), format_number(0.5, decimals=1, signed=True)
        ('−1.2', '+0.5')
    """
    if value is None or math.isnan(value):
        return MISSING
    sign = "−" if value < 0 else "+" if signed else ""
    return sign + (f"{abs(value):.{decimals}f}" if math.isfinite(value) else "∞")


def format_p_value(p_value: float) -> str:
    """Return ``p = 0.012``, or ``p < 0.001`` below that: a thousand resamples cannot say more.

    Example:
        >>> format_p_value(0.0123), format_p_value(0.0002)
        ('p = 0.012', 'p < 0.001')
    """
    if math.isnan(p_value):
        return f"p = {MISSING}"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def diagnostic_columns(results: Sequence[EvaluationResult]) -> list[tuple[str, Callable[[EvaluationResult], str]]]:
    """Return heading and cell text of the columns beside the metrics, without those that no result has."""
    columns: list[tuple[str, Callable[[EvaluationResult], str]]] = [
        ("output NLL / sentence ↓", lambda result: _confidence(result, token_mean=False)),
        ("output NLL / token ↓", lambda result: _confidence(result, token_mean=True)),
        ("repetition rate % ↓", lambda result: format_number(result.repetition_rate, decimals=2)),
        ("length ratio", lambda result: format_number(result.length_ratio, decimals=3)),
        ("passes ↓", lambda result: "" if result.num_passes is None else f"{result.num_passes:.4g}"),
    ]
    columns += [
        ("sources too long ↓", lambda result: str(result.num_too_long or "")),
        ("outputs at length limit ↓", lambda result: str(result.num_at_limit or "")),
    ]
    batch_sizes = dict.fromkeys(entry.batch_size for result in results for entry in result.speed)
    columns += [(f"ms / sentence ↓ (batch {size})", _milliseconds_at(size)) for size in batch_sizes]
    headings_of_metrics = {metric_heading(name, results) for name in metric_names(results)}
    return [
        (heading, cell)
        for heading, cell in columns
        if heading not in headings_of_metrics and any(cell(result) for result in results)
    ]


def _confidence(result: EvaluationResult, *, token_mean: bool) -> str:
    if result.confidence is None:
        return ""
    value = result.confidence.nll_per_token if token_mean else result.confidence.nll_per_sentence
    return format_number(value, decimals=3 if token_mean else 2)


def _milliseconds_at(batch_size: int) -> Callable[[EvaluationResult], str]:
    def cell(result: EvaluationResult) -> str:
        times = [entry.milliseconds_per_sentence for entry in result.speed if entry.batch_size == batch_size]
        return "" if not times else f"{times[0]:.3g}" if times[0] < 999.5 else f"{times[0]:,.0f}"

    return cell


def results_table(
    results: Sequence[EvaluationResult], comparisons: Sequence[Comparison] = (), *, title: str | None = None
) -> Table:
    """Make a table for a terminal, with 95% intervals and p-values against the first system.

    One or two systems stand side by side, a row for each quantity, which fits a terminal of 80 columns; more have a row
    each.

    Args:
        results: The systems; put the baseline of ``comparisons`` first.
        comparisons: What :func:`sharpseq.evaluation.compare_systems` returned.
        title: Heading of the table.

    Raises:
        ValueError: If there are no results.
    """
    headings, rows = _cells(results, comparisons, separator="\n")
    if len(results) <= _MOST_SIDE_BY_SIDE:
        headings, *rows = map(list, zip(headings, *rows, strict=True))
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        # As Text, so that square brackets in a system's name or an interval are not taken for markup.
        table.add_row(*map(Text, row))
    return table


def summary_table(
    results: Sequence[EvaluationResult], comparisons: Sequence[Comparison] = (), *, title: str | None = None
) -> Table:
    """Make the short table that ends a run: a row a system, with scores, p-values, confidence and speed.

    Two metrics fit a terminal of 100 columns. The report has the rest, such as intervals and larger batches.

    Args:
        results: The systems; put the baseline of ``comparisons`` first.
        comparisons: What :func:`sharpseq.evaluation.compare_systems` returned.
        title: Heading of the table.
    """
    comparisons = against_first_row(results, comparisons)
    names = metric_names(results)
    batch_sizes = [entry.batch_size for result in results for entry in result.speed]
    columns: list[tuple[str, Callable[[EvaluationResult], str]]] = [
        ("NLL / token ↓", lambda result: _confidence(result, token_mean=True))
    ]
    if batch_sizes:
        columns.append(("ms ↓", _milliseconds_at(min(batch_sizes))))
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("system")
    for heading in [*(metric_heading(name, results) for name in names), *(heading for heading, _ in columns)]:
        table.add_column(Text(heading), justify="right")
    for result in results:
        cells = [metric_cell(result, name, comparisons) for name in names]
        scores = [f"{cell.score} ({cell.p_value})" if cell.p_value else cell.score for cell in cells]
        table.add_row(*map(Text, [result.system, *scores, *(cell(result) or MISSING for _, cell in columns)]))
    return table


def markdown_table(results: Sequence[EvaluationResult], comparisons: Sequence[Comparison] = ()) -> str:
    """Return the same table as markdown.

    Args:
        results: The systems; put the baseline of ``comparisons`` first.
        comparisons: What :func:`sharpseq.evaluation.compare_systems` returned.

    Raises:
        ValueError: If there are no results.

    Example:
        >>> from sharpseq.evaluation.results import evaluate_outputs
        >>> result = evaluate_outputs(["a"], [["a"]], metrics=["exact_match"], system="copy", num_resamples=0)
        >>> print(markdown_table([result]))
        | system | exact match % ↑ | repetition rate % ↓ | length ratio |
        | :--- | ---: | ---: | ---: |
        | copy | 100.00 | 0.00 | 1.000 |
    """
    headings, rows = _cells(results, comparisons, separator=" ")
    rule = [":---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cells(
    results: Sequence[EvaluationResult], comparisons: Sequence[Comparison], *, separator: str
) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows; the parts of a metric's cell are joined by the separator."""
    if len(results) == 0:
        raise ValueError("`results` must hold at least one result; got none")
    names = metric_names(results)
    diagnostics = diagnostic_columns(results)
    comparisons = against_first_row(results, comparisons)
    several_data = len({result.data for result in results}) > 1
    headings = ["system", *(["data"] if several_data else []), *(metric_heading(name, results) for name in names)]
    rows = []
    for result in results:
        cells = [metric_cell(result, name, comparisons) for name in names]
        metrics = [separator.join(filter(None, [cell.score, cell.interval, cell.p_value])) for cell in cells]
        row = [result.system, *([result.data] if several_data else []), *metrics]
        rows.append(row + [cell(result) or MISSING for _, cell in diagnostics])
    return headings + [heading for heading, _ in diagnostics], rows
