"""The outcome of a benchmark as two tables: one row a system, then one row a system and batch size."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from sharpseq.benchmarking.outcome import TREATMENT, Outcome, SystemOutcome
from sharpseq.benchmarking.speeds import BatchSpeed, best_throughput
from sharpseq.evaluation import describe_machine
from sharpseq.evaluation.tables import MISSING, metric_cell, metric_heading, metric_names

_MEBIBYTE = 2**20
_CLEARLY = 1.15
"""A ratio that is not the rounding of clocks any more."""


def system_table(outcome: Outcome) -> Table:
    """Return a row for each system: quality, best throughput, memory, size on disk, start."""
    results = [each.quality for each in outcome.systems]
    names = metric_names(results)
    table = Table(title="quality, throughput, memory", title_justify="left", header_style="bold")
    table.add_column("system")
    headings = [*(metric_heading(name, results) for name in names), "best sentences / s ↑", "at batch"]
    for heading in [*headings, "peak memory MiB ↓", "on disk MiB ↓", "start s ↓"]:
        table.add_column(Text(heading), justify="right")
    for each in outcome.systems:
        cells = [metric_cell(each.quality, name, outcome.comparisons) for name in names]
        scores = ["\n".join(filter(None, [cell.score, cell.interval, cell.p_value])) for cell in cells]
        best = best_throughput(each.speeds)
        rest = [f"{best.sentences_per_second:.4g}", str(best.batch_size), _mebibytes(each.peak_bytes)]
        table.add_row(
            *map(Text, [described(each), *scores, *rest, _mebibytes(each.disk_bytes), f"{each.start_seconds:.2f}"])
        )
    return table


def speed_table(outcome: Outcome) -> Table:
    """Return a row for each batch size and system: milliseconds a sentence, percentiles of the wait, speed-up."""
    table = Table(title="milliseconds a sentence", title_justify="left", header_style="bold")
    table.add_column("batch", justify="right")
    table.add_column("system")
    headings = ["ms / sentence ↓", "p50", "p95", "p99", "CPU ms / sentence"]
    for heading in headings + ([] if outcome.baseline is None else [f"times as fast as {outcome.baseline} ↑"]):
        table.add_column(Text(heading), justify="right")
    by_size: dict[int, list[tuple[str, BatchSpeed]]] = {}
    for each in outcome.systems:
        for speed in each.speeds:
            by_size.setdefault(speed.batch_size, []).append((each.system.name, speed))
    for size, rows in by_size.items():
        table.add_section()
        for name, speed in rows:
            middle = f"{speed.milliseconds:.3g} ({speed.milliseconds_low:.3g} – {speed.milliseconds_high:.3g})"
            cells = [
                str(size),
                name,
                middle,
                *(f"{wait:.3g}" for wait in speed.waits),
                f"{speed.processor_milliseconds:.3g}",
            ]
            table.add_row(*map(Text, cells + ([] if outcome.baseline is None else [_speed_up(speed)])))
    return table


def notes(outcome: Outcome) -> list[str]:
    """Return what a reader must know beside the tables, a line each."""
    conditions, machine = outcome.conditions, describe_machine()
    low, high = outcome.load_averages
    threads = f"{conditions.num_threads} thread{'s' if conditions.num_threads > 1 else ''}"
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; {threads} a system; load average {low:.1f} to {high:.1f}",
        f"{outcome.num_timed:,} sentences timed, {len(outcome.measured.rounds)} rounds in turns; the median round (the "
        "fastest – the slowest); p50, p95 and p99 are how long a sentence waits, which is the time of its batch",
        TREATMENT,
    ]
    for name, metric in outcome.systems[0].quality.metrics.items():
        lines += [f"{name}: {metric.signature}"] if metric.signature else []
    for each in outcome.systems:
        lines += [f"{each.system.name} {line}" for line in _busy_notes(each, conditions.num_threads)]
    if outcome.no_rival is not None:
        lines.append(f"no rival: {outcome.no_rival}")
    elif outcome.baseline is None:
        lines.append(
            "no speed-up is stated without the rival: give --against FOLDER, an autoregressive model exported for "
            "CTranslate2, or --no-rival REASON"
        )
    return lines


def _busy_notes(outcome: SystemOutcome, num_threads: int) -> list[str]:
    """Say where a system kept clearly more cores busy than it was to, or clearly less than one."""
    cores = [speed.busy_cores for speed in outcome.speeds]
    notes = []
    if max(cores) > num_threads * _CLEARLY:
        notes.append(f"kept {max(cores):.1f} cores busy, more than {num_threads}; its times are not comparable")
    if min(cores) < 1 / _CLEARLY:
        notes.append(f"had a core for {min(cores):.0%} of its time; compare CPU ms, or measure on an idle machine")
    return notes


def described(outcome: SystemOutcome) -> str:
    """Return the name of a system, its engine and what it computes in."""
    return f"{outcome.system.name} ({outcome.system.engine}, {outcome.settings.get('dtype', 'unknown')})"


def _speed_up(speed: BatchSpeed) -> str:
    if speed.speed_up is None:
        return MISSING
    return f"{speed.speed_up:.2f} ({speed.speed_up_low:.2f} – {speed.speed_up_high:.2f})"


def _mebibytes(count: int | None) -> str:
    return (
        MISSING if count is None else f"{count / _MEBIBYTE:,.0f}" if count >= _MEBIBYTE else f"{count / _MEBIBYTE:.2g}"
    )
