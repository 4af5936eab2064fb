"""The --metric option, and what a user sees while metrics take long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sharpseq.evaluation.metric import MetricSpec
    from sharpseq.evaluation.metrics import OnProgress


def check_metrics(names: Sequence[str]) -> list[str]:
    """Return the names of metrics after checking that they exist and that what they need is installed.

    Raises:
        UserError: If not; the message names the nearest one, or the command that installs what is missing.
    """
    from sharpseq.evaluation import check_metric

    for name in names:
        check_metric(name)
    return list(dict.fromkeys(names))


@contextmanager
def metric_progress() -> Iterator[OnProgress]:
    """Yield what `sharpseq.evaluation.measure` calls while a metric takes long.

    It reports that on standard error once for each metric, and shows on a terminal how many sentences are done and how
    much time has passed.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {}

        def on_progress(metric: MetricSpec, done: int) -> None:
            if metric.name not in tasks:
                typer.echo(metric.slow_notice, err=True)
                tasks[metric.name] = progress.add_task(metric.name)
            progress.update(tasks[metric.name], description=f"{metric.name}: sentences done: {done}")

        yield on_progress
