"""``sharpseq export``: an autoregressive model for CTranslate2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.errors import UserError


def export(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or a name of the hub.")],
    output: Annotated[Path, typer.Argument(help="The folder to make.")],
    quantization: Annotated[
        str | None, typer.Option(metavar="TYPE", help="How weights are stored: int8, int16, float16 and so on.")
    ] = None,
) -> None:
    """Convert an autoregressive model to CTranslate2, the fast engine that one-pass models have to beat."""
    from sharpseq.cli.quiet import quiet_libraries

    quiet_libraries()
    from sharpseq.integrations import export_ctranslate2
    from sharpseq.integrations.ctranslate2 import QUANTIZATIONS

    if quantization is not None and quantization not in QUANTIZATIONS:
        raise UserError(f"--quantization {quantization} is unknown; give one of {', '.join(QUANTIZATIONS)}")
    try:
        export_ctranslate2(model, output, quantization=quantization)
    except ImportError as error:
        raise UserError(str(error)) from error
    typer.echo(f'{output}: read it with `sharpseq.integrations.Ctranslate2Generator("{output}")`', err=True)
