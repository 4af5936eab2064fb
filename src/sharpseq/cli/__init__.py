"""The command line: one small module per command, nothing but argument handling.

A command is a function with typer annotations, named like the command, in a module of this folder. Adding one takes
its module, one import and one row in ``COMMANDS`` here; a group of commands is a ``typer.Typer`` of its own. At their
top, modules here import only the standard library, typer, rich and small modules that import no package of sharpseq,
such as ``sharpseq.errors``. A command's function imports what it needs itself, so that ``--help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from sharpseq.cli import (
    benchmark,
    compare,
    distill,
    evaluate,
    export,
    generate,
    info,
    latent,
    listings,
    merge,
    serve,
    teach,
    theory,
    train,
    tune,
)
from sharpseq.cli.failures import OneLineFailures
from sharpseq.cli.standard_streams import prepare_streams

__all__ = ["app", "main"]

# In the order in which `sharpseq --help` lists them.
COMMANDS: tuple[Callable[..., Any], ...] = (
    train.train,
    generate.generate,
    evaluate.evaluate,
    compare.compare,
    benchmark.benchmark,
    tune.tune,
    distill.distill,
    merge.merge,
    teach.teach,
    export.export,
    serve.serve,
    theory.theory,
    listings.models,
    listings.objectives,
    listings.divergences,
    listings.decoders,
    listings.processors,
    listings.metrics,
    listings.recipes,
    info.info,
)

app = typer.Typer(
    cls=OneLineFailures,
    name="sharpseq",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sharpseq import __version__

        typer.echo(f"sharpseq {__version__}")
        raise typer.Exit


@app.callback()
def _sharpseq(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train, decode and evaluate autoregressive and one-pass models with maximum likelihood and convex objectives."""


for _command in COMMANDS:
    app.command()(_command)
app.add_typer(latent.app)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    prepare_streams()
    app(prog_name="sharpseq")
