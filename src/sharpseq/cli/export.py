"""``sharpseq export``: models for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sharpseq.cli.model_argument import Model, SourceLanguage, TargetLanguage
from sharpseq.errors import UserError


class Format(str, Enum):
    """The formats of an export."""

    ctranslate2 = "ctranslate2"
    hugging_face = "hugging_face"


def export(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The folder to make.")],
    to: Annotated[Format, typer.Option(help="The engine CTranslate2, or a plain folder with adapters merged.")] = (
        Format.ctranslate2
    ),
    quantization: Annotated[
        str | None, typer.Option(metavar="TYPE", help="For CTranslate2: int8, int16, float16 and so on.")
    ] = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
) -> None:
    """Convert a model: to CTranslate2, the fast engine for autoregressive models, or to a plain Hugging Face folder."""
    from sharpseq.cli.quiet import quiet_libraries

    quiet_libraries()
    languages = {"source_language": source_language, "target_language": target_language}
    if to is Format.hugging_face:
        if quantization is not None:
            raise UserError("--quantization goes with --to ctranslate2 only; leave it out")
        from sharpseq.integrations import export_hugging_face

        try:
            export_hugging_face(model, output, **languages)
        except ValueError as error:
            raise UserError(f"{model}: {error}") from error
        typer.echo(f"{output}: any program that loads Hugging Face models reads it", err=True)
        return
    from sharpseq.integrations import export_ctranslate2
    from sharpseq.integrations.ctranslate2 import QUANTIZATIONS

    if quantization is not None and quantization not in QUANTIZATIONS:
        raise UserError(f"--quantization {quantization} is unknown; give one of {', '.join(QUANTIZATIONS)}")
    try:
        export_ctranslate2(model, output, quantization=quantization, **languages)
    except ImportError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{model}: {error}") from error
    typer.echo(f'{output}: read it with `sharpseq.integrations.Ctranslate2Generator("{output}")`', err=True)
