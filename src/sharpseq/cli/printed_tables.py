"""Tables of results on a terminal, in a pipe or in a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sharpseq.evaluation import Comparison, EvaluationResult, OutputSample


def print_results(
    results: Sequence[EvaluationResult], comparisons: Sequence[Comparison] = (), *, title: str | None = None
) -> None:
    """Print a table of results, with rows and columns exchanged where only that fits the terminal."""
    from rich.console import Console

    from sharpseq.evaluation import results_table

    console = Console()
    table = results_table(results, comparisons, title=title)
    if console.is_terminal and _width(table, console) > console.width:
        table = min(table, _turned(table), key=lambda candidate: _width(candidate, console))
    print_table(table)


def print_samples(samples: Sequence[OutputSample]) -> None:
    """Print examples with the outputs of some systems; those that equal a reference are marked."""
    from rich.table import Table
    from rich.text import Text

    from sharpseq.evaluation import measure

    table = Table(header_style="bold")
    for heading in ("source", "reference", *samples[0].outputs):
        table.add_column(Text(heading))
    for sample in samples:
        outputs = [
            f"{output} ✓" if measure("exact_match", [output], [sample.references]).result.score else output or "(empty)"
            for output in sample.outputs.values()
        ]
        table.add_row(*map(Text, (sample.source, " / ".join(sample.references), *outputs)))
    print_table(table)


def print_table(table: Table) -> None:
    """Print a table; a pipe or a log has no width of its own, and nothing is wrapped or cut there."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(_width(table, console), console.width))
    console.print(table)


def _width(table: Table, console: Console) -> int:
    return table.__rich_measure__(console, console.options.update(max_width=10_000)).maximum


def _turned(table: Table) -> Table:
    """Return a table with rows and columns exchanged."""
    from rich.table import Table

    first, *others = table.columns
    turned = Table(title=table.title, title_justify="left", header_style="bold")
    turned.add_column(first.header)
    for name in first.cells:
        turned.add_column(name, justify="right")
    for column in others:
        turned.add_row(column.header, *column.cells)
    return turned
