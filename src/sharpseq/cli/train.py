"""``sharpseq train``: run a recipe, or resume a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.errors import UserError


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a shipped recipe (see `sharpseq recipes`).")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as stages.1.training.max_steps=500."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; by default runs/ and the recipe's name.")
    ] = None,
    accelerate: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Train in several processes: ddp, fsdp2, or a file of `accelerate config`."),
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many processes, with --accelerate.")
    ] = None,
) -> None:
    """Train, evaluate and report as a recipe says; the same command again resumes where it stopped."""
    from sharpseq.recipe import read_recipe

    loaded = read_recipe(recipe, overrides=settings or [])
    folder = run or Path("runs") / loaded.name
    if num_processes is not None and accelerate is None:
        raise UserError("--num-processes goes with --accelerate; give both, such as --accelerate ddp")
    if accelerate is not None:
        from sharpseq.cli.launching import launch, num_processes_of
        from sharpseq.recipe.process_count import check_process_count

        overrides = [part for setting in settings or [] for part in ("--set", setting)]
        # Here, because every started process would report it, and the launcher would add a traceback.
        check_process_count(loaded, folder, num_processes_of(accelerate, num_processes))
        arguments = ["train", recipe, *overrides, "--run", str(folder)]
        raise typer.Exit(launch(accelerate, arguments, num_processes=num_processes))

    from sharpseq.cli.quiet import quiet_libraries

    quiet_libraries()
    from sharpseq.runs import run_recipe

    result = run_recipe(loaded, folder, say=_say)
    _leave_the_others()
    if result is None:  # a worker process of a distributed run
        return

    import shlex

    from sharpseq.cli.printed_tables import print_samples, print_table
    from sharpseq.evaluation import summary_table

    for data in loaded.data.test or ["validation"]:
        if result.results[data]:
            title = f"{loaded.name}: {data}"
            print_table(summary_table(result.results[data], result.comparisons[data], title=title))
    conclusion = result.conclusion
    if conclusion.samples:
        typer.echo(f"{conclusion.samples_note}:")
        print_samples(conclusion.samples)
    if conclusion.verdict:
        typer.echo(conclusion.verdict)
    typer.echo(f"report: {result.report}")
    typer.echo(f"model:  {result.model}")
    typer.echo(f"try:    echo {shlex.quote(result.example)} | sharpseq generate {shlex.quote(str(result.folder))}")


def _leave_the_others() -> None:
    """Close the connections to other processes: threads that still communicate when Python ends crash the process."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _say(line: str) -> None:
    typer.echo(line, err=True)
