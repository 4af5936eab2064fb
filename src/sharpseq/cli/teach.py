"""``sharpseq teach``: a teacher's outputs, stored for students to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.cli.corpus_argument import HELP as DATA_HELP
from sharpseq.cli.model_argument import BatchTokens, Model, SourceLanguage, TargetLanguage
from sharpseq.errors import UserError


def teach(
    teacher: Model,
    data: Annotated[list[str], typer.Argument(help="What students will learn from and be validated on: " + DATA_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The store; it is made.")],
    k: Annotated[int, typer.Option("--k", min=1, help="Most probable tokens kept at each position.")] = 32,
    dtype: Annotated[str, typer.Option(help="Their type: float16, bfloat16 or float32.")] = "float16",
    temperature: Annotated[float, typer.Option(help="Divides the teacher's logits.")] = 1.0,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    batch_tokens: BatchTokens = 4000,
) -> None:
    """Store a teacher's most probable tokens at each position of a corpus, so that students need no teacher in memory.

    After an interruption the same command continues where it stopped.
    """
    import math

    from sharpseq.cli.quiet import quiet_libraries

    if not 0 < temperature < math.inf:
        raise UserError(f"--temperature must be greater than 0; got {temperature:g}")
    quiet_libraries()
    from rich.console import Console
    from rich.progress import Progress

    from sharpseq.cli.corpus_argument import load_corpus, normalize_for
    from sharpseq.data import encode, load_tokenizer
    from sharpseq.generation import load_model, model_folder, with_languages
    from sharpseq.processor_threads import choose_num_threads
    from sharpseq.runs.model_shape import shape_of_model
    from sharpseq.training.distillation import DTYPES
    from sharpseq.training.distillation import teach as write

    if dtype not in DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    corpus = [example for text in data for example in load_corpus(text, unicode_normalization="none")]
    choose_num_threads()
    try:
        model, tokenizer = with_languages(
            load_model(teacher, merge=True),
            load_tokenizer(model_folder(teacher)),
            source=source_language,
            target=target_language,
        )
    except ValueError as error:
        raise UserError(f"{teacher}: {error}") from error
    shape = shape_of_model(model)
    encoded = encode(normalize_for(tokenizer, corpus), tokenizer, append_eos_to_target=shape.is_autoregressive)
    kept, report = shape.length_filter.apply(encoded)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("teaching", total=len(kept))
        try:
            done = write(
                model,
                tokenizer,
                kept,
                output,
                k=k,
                dtype=dtype,
                temperature=temperature,
                batch_tokens=batch_tokens,
                on_progress=lambda number: progress.update(task, completed=number),
            )
        except ValueError as error:
            raise UserError(f"{teacher}: {error}") from error
    resumed = f", {done.num_resumed:,} of them from before" if done.num_resumed else ""
    typer.echo(f"{done.num_examples:,} examples in {output}{resumed}", err=True)
    if report.num_dropped:
        typer.echo(f"too long for the teacher, so not in the store: {report}", err=True)
