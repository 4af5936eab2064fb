"""``sharpseq export``: models for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.model_argument import Model, SourceLanguage, TargetLanguage
from sharpseq.errors import UserError


class Format(str, Enum):
    """The formats of an export."""

    ctranslate2 = "ctranslate2"
    openvino = "openvino"
    hugging_face = "hugging_face"


def export(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The folder to make.")],
    to: Annotated[
        Format,
        typer.Option(
            help="The engine CTranslate2 for autoregressive models, OpenVINO for one-pass models, or a plain folder "
            "with adapters merged."
        ),
    ] = Format.ctranslate2,
    quantization: Annotated[
        str | None, typer.Option(metavar="TYPE", help="int8; for CTranslate2 also int16, float16 and so on.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="DATA", help=f"For OpenVINO: compare with the model on these data. {DATA_HELP}"),
    ] = None,
    metric: Annotated[str, typer.Option(help="What --check compares by.")] = "bleu",
    largest_loss: Annotated[
        float, typer.Option(help="By how much the export may be worse in --check; beyond that it is refused.", min=0)
    ] = 0.5,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
) -> None:
    """Convert a model: to CTranslate2 or OpenVINO, fast engines on CPUs, or to a plain Hugging Face folder."""
    from sharpseq.cli.quiet import quiet_libraries

    quiet_libraries()
    languages = {"source_language": source_language, "target_language": target_language}
    if check is not None and to is not Format.openvino:
        raise UserError("--check goes with --to openvino only; leave it out")
    try:
        if to is Format.hugging_face:
            _to_hugging_face(model, output, quantization, **languages)
        elif to is Format.openvino:
            if source_language or target_language:
                raise UserError(
                    "one-pass models have no languages to choose; leave --source-language and the other out"
                )
            _to_openvino(model, output, quantization, check=check, metric=metric, largest_loss=largest_loss)
        else:
            _to_ctranslate2(model, output, quantization, **languages)
    except ImportError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{model}: {error}") from error


def _to_hugging_face(model: str, output: Path, quantization: str | None, **languages: Any) -> None:
    from sharpseq.integrations import export_hugging_face

    if quantization is not None:
        raise UserError("--quantization goes with --to ctranslate2 and openvino only; leave it out")
    export_hugging_face(model, output, **languages)
    typer.echo(f"{output}: any program that loads Hugging Face models reads it", err=True)


def _to_ctranslate2(model: str, output: Path, quantization: str | None, **languages: Any) -> None:
    from sharpseq.integrations import export_ctranslate2
    from sharpseq.integrations.ctranslate2 import QUANTIZATIONS

    _check_quantization(quantization, QUANTIZATIONS)
    export_ctranslate2(model, output, quantization=quantization, **languages)
    typer.echo(f'{output}: read it with `sharpseq.integrations.Ctranslate2Generator("{output}")`', err=True)


def _to_openvino(
    model: str, output: Path, quantization: str | None, *, check: str | None, metric: str, largest_loss: float
) -> None:
    from sharpseq.integrations.openvino import QUANTIZATIONS, export_openvino

    _check_quantization(quantization, QUANTIZATIONS)
    gate = None
    if check is not None:
        from sharpseq.cli.corpus_argument import corpus_name, load_corpus
        from sharpseq.cli.export_check import quality_gate
        from sharpseq.cli.metric_argument import check_metrics

        check_metrics([metric])
        examples = load_corpus(check, unicode_normalization="none")
        gate = quality_gate(model, examples, metric=metric, largest_loss=largest_loss, name=corpus_name(check))
    export_openvino(model, output, quantization=quantization, check=gate)
    typer.echo(f"{output}: `sharpseq generate {output}` reads it, and `sharpseq.runtime.load` without torch", err=True)
    if gate is not None:
        from sharpseq.cli.export_check import described
        from sharpseq.runtime import read_manifest

        typer.echo(f"{output}: {described(dict(read_manifest(output).check))}", err=True)


def _check_quantization(quantization: str | None, known: tuple[str, ...]) -> None:
    if quantization is not None and quantization not in known:
        raise UserError(f"--quantization {quantization} is unknown; give one of {', '.join(known)}")
