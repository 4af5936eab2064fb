"""``sharpseq distill``: a corpus whose targets a teacher wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.model_argument import BatchTokens, Decoder, Model, PromptText, SourceLanguage, TargetLanguage


def distill(
    teacher: Model,
    data: Annotated[str, typer.Argument(help="The sources to decode: " + DATA_HELP)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="FILE.jsonl keeps sources too; any other name gets targets. FILE.gz is compressed.",
        ),
    ],
    decoder: Decoder = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A decoder's setting; num_beams=5 by default."),
    ] = None,
    prompt: PromptText = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    batch_tokens: BatchTokens = 4000,
) -> None:
    """Decode training sources with a teacher into a new corpus (sequence-level knowledge distillation).

    Line i of the output belongs to example i. After an interruption the same command continues where it stopped.
    """
    from sharpseq.generation.distillation import check_output, distill_corpus

    check_output(output)

    from rich.console import Console
    from rich.progress import Progress

    from sharpseq.cli.corpus_argument import load_corpus, normalize_for
    from sharpseq.cli.model_argument import load_generator, report_unknown_characters
    from sharpseq.generation import sources_of
    from sharpseq.number_text import line_list

    raw = load_corpus(data, unicode_normalization="none")
    generator = load_generator(
        teacher,
        decoder=decoder,
        settings=settings or [],
        prompt=prompt,
        source_language=source_language,
        target_language=target_language,
        batch_tokens=batch_tokens,
    )
    corpus = normalize_for(generator.tokenizer, raw)
    if generator.decoder == "autoregressive":
        generator.options.setdefault("num_beams", 5)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("distilling", total=len(corpus))
        report = distill_corpus(
            generator, corpus, output, on_progress=lambda done: progress.update(task, completed=done)
        )
    typer.echo(
        f"{report.num_written} lines in {output}"
        + (f", {report.num_resumed} of them from before" if report.num_resumed else ""),
        err=True,
    )
    if report.too_long:
        typer.echo(
            f"{len(report.too_long)} sources are too long for the teacher and keep their own target: lines "
            + line_list(report.too_long),
            err=True,
        )
    if report.reached_limits:
        typer.echo(f"{report.limits}: lines {line_list(list(report.reached_limits))}", err=True)
    report_unknown_characters(generator.tokenizer, sources_of(corpus))
