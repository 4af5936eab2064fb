"""``sharpseq generate``: one line in, one line out."""

from __future__ import annotations

import io
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, BinaryIO

import typer

from sharpseq.cli.model_argument import (
    BatchTokens,
    Decoder,
    DraftWith,
    LanguageModelFile,
    Model,
    PromptText,
    RescoreWith,
    Settings,
    SourceLanguage,
    TargetLanguage,
)
from sharpseq.errors import UserError

_WINDOW = 1000
"""Lines read ahead to make batches of similar length; fewer if no more have arrived yet."""


def generate(
    model: Model,
    file: Annotated[str, typer.Argument(help="Text file, plain or .gz; - for standard input.")] = "-",
    decoder: Decoder = None,
    settings: Settings = None,
    rescore_with: RescoreWith = None,
    draft_with: DraftWith = None,
    language_model: LanguageModelFile = None,
    prompt: PromptText = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Put the log-probability in nats and a tab before each line.")
    ] = False,
    batch_tokens: BatchTokens = 4000,
) -> None:
    """Write one output line for each input line, in order, as they come.

    Blank lines stay empty. A line longer than the model allows is reported on standard error and gives an empty line;
    the exit status is then 2. Outputs that reached their length limit, and characters that the model does not know, are
    reported at the end, once.
    """
    from sharpseq.cli.model_argument import load_exported, load_generator
    from sharpseq.data import iter_lines, one_line
    from sharpseq.generation import ReachedLimits
    from sharpseq.runtime.manifest import is_export

    lines = iter_lines(_standard_input() if file == "-" else file)
    # Unreadable input is reported before a model is loaded, and a wrong model even if there is no input.
    first = next(lines, None)
    decoding = {
        "decoder": decoder,
        "settings": settings or [],
        "rescore_with": rescore_with,
        "draft_with": draft_with,
        "language_model": language_model,
        "prompt": prompt,
        "source_language": source_language,
        "target_language": target_language,
    }
    load: Any = load_exported if is_export(model) else load_generator
    generator = load(model, batch_tokens=batch_tokens, **decoding)
    if first is None:
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As the input is, whatever the locale.
        sys.stdout.reconfigure(encoding="utf-8")
    number, num_failed, reached = 0, 0, ReachedLimits()
    for window in _as_they_come(first, lines):
        for output in generator.generate_batch(window):
            number += 1
            reached.add([output.reached_limit])
            if output.error:
                num_failed += 1
                typer.echo(f"line {number}: {output.error}; left empty", err=True)
            text = one_line(output.text)
            sys.stdout.write(f"{output.log_prob:.4f}\t{text}\n" if scores else f"{text}\n")
        sys.stdout.flush()
    if reached:
        typer.echo(str(reached), err=True)
    unknown = getattr(generator, "unknown_characters", None)  # an engine does not tell
    if unknown:
        typer.echo(str(unknown), err=True)
    if num_failed:
        raise UserError(f"{num_failed} of {number} lines were too long for the model and left empty; split them")


class _StandardInput(io.BufferedReader):
    """Standard input through a buffer of our own.

    The interpreter closes ``sys.stdin`` when it ends, and aborts when a thread waits in that buffer.
    """

    name = "standard input"


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise UserError("standard input is closed; give a file, or lines in a pipe")
    if sys.stdin.isatty():
        typer.echo("type a line and press Enter; Ctrl-D ends", err=True)
    try:
        return _StandardInput(io.FileIO(sys.stdin.fileno(), closefd=False))
    except io.UnsupportedOperation:  # something in memory that stands for it
        return sys.stdin.buffer


def _as_they_come(first: str, lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield all lines that have arrived so far, at most a window: large batches for files, no wait for typed lines."""
    arrived: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=4 * _WINDOW)
    arrived.put(first)

    def read() -> None:
        try:
            for line in lines:
                arrived.put(line)
            arrived.put(None)
        except BaseException as error:  # handed to the main thread, which reports it after the lines before it
            arrived.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        window: list[str] = []
        end: BaseException | str | None = ""
        while len(window) < _WINDOW and (not window or not arrived.empty()):
            item = arrived.get()
            if not isinstance(item, str):
                end = item
                break
            window.append(item)
        if window:
            yield window
        if isinstance(end, BaseException):
            raise end
        if end is None:
            return
