"""What commands that analyse something share: the folder for their files, progress, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sharpseq.cli.standard_streams import print_json
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.analyses import AnalysisFiles, Row


def check_folder(folder: Path | None) -> None:
    """Check that a folder can be written, or made; None means that none is wanted.

    Raises:
        UserError: If not.
    """
    from sharpseq.cli.output_files import check_parent

    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder")
    check_parent(folder / "analysis.json" if folder.is_dir() else folder)


@contextmanager
def progress_bar(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; yield a function that takes how much is done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, completed=done)


def show_table(files: AnalysisFiles, rows: Sequence[Row], *, title: str, output: Path | None, as_json: bool) -> None:
    """Print a table or the JSON, and write the files if they are wanted."""
    if as_json:
        print_json(files.json)
    else:
        _print_rows(rows, title=title)
    write_files(files, output)


def _print_rows(rows: Sequence[Row], *, title: str) -> None:
    """Print rows as a table."""
    from rich.table import Table
    from rich.text import Text

    from sharpseq.cli.printed_tables import print_table

    table = Table(title=title, title_justify="left", header_style="bold")
    for place, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if place and heading != "text" else "left")
    for row in rows:
        # As texts, so that square brackets in a sentence are not read as markup.
        table.add_row(*map(Text, row.values()))
    print_table(table)


def write_files(files: AnalysisFiles, output: Path | None) -> None:
    """Write an analysis into a folder, if one is wanted, and report on standard error what was written."""
    if output is not None:
        for path in files.write(output):
            typer.echo(f"wrote {path}", err=True)
