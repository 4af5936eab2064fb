"""Sequence-level knowledge distillation: a corpus in a teacher's words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sharpseq.data import Example, Message, encode_sources, one_line
from sharpseq.errors import UserError
from sharpseq.generation.fingerprints import fingerprint_of
from sharpseq.generation.sequence_generator import SequenceGenerator, sources_of
from sharpseq.whole_files import check_ending, move_into_place, whole_file

_WINDOW = 500
"""Examples decoded between two writes: what a kill loses at most."""


@dataclass(frozen=True)
class DistillationReport:
    """What a distillation did.

    Args:
        num_written: Lines of the finished corpus.
        num_resumed: Lines of them that an earlier, interrupted run had written.
        too_long: Line numbers, from 1, of sources longer than the teacher reads; they keep their own target.
    """

    num_written: int
    num_resumed: int
    too_long: list[int]


@dataclass(frozen=True)
class _Task:
    """What an interrupted distillation shares with the one that may go on with it."""

    sources: str
    teacher: str
    decoder: str
    options: dict[str, Any]


def distill_corpus(
    teacher: SequenceGenerator,
    corpus: Sequence[Example],
    output: Path,
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DistillationReport:
    """Decode the sources of a corpus into a new corpus, resuming where an earlier run stopped.

    Lines go to ``output`` with the ending ``.partial`` until all are there, beside a ``.partial.json`` that says what
    they were made from. A resumed corpus equals an uninterrupted one: it continues at the start of a window, so that
    sentences share their batches with the same others.

    Args:
        teacher: The model that writes the new targets.
        corpus: Examples; only their sources are read, and the target of one that is too long.
        output: The new corpus: one target a line, or with the ending ``.jsonl`` objects with ``source`` and ``target``,
            or where examples have a history with ``messages``. A further ending ``.gz`` compresses it.
        on_progress: Called with the number of lines written so far.

    Returns:
        What was done.

    Raises:
        UserError: If ``output`` exists already or cannot be written, or what was interrupted is another distillation:
            of other sources, by another teacher, or decoded in another way.

    References:
        Kim and Rush 2016, "Sequence-level knowledge distillation".
    """
    check_output(output)
    partial = output.with_name(output.name + ".partial")
    record = output.with_name(output.name + ".partial.json")
    task = _Task(
        _hash_of_sources(corpus),
        fingerprint_of(teacher.model, teacher.tokenizer),
        teacher.decoder,
        dict(teacher.options),
    )
    try:
        num_resumed = _claim(partial, record, task)
        too_long = _too_long(teacher, corpus[:num_resumed])
        as_line = _line_maker(corpus, output)
        with partial.open("a", encoding="utf-8", newline="\n") as file:
            for start in range(num_resumed, len(corpus), _WINDOW):
                on_progress(start)
                for number, line in _decode(teacher, corpus[start : start + _WINDOW], as_line=as_line):
                    if number is not None:
                        too_long.append(start + number)
                    file.write(line + "\n")
                file.flush()
        if output.suffix == ".gz":
            with partial.open("rb") as plain, whole_file(output) as file:
                shutil.copyfileobj(plain, file)
            partial.unlink()
        else:
            move_into_place(partial, output)
        record.unlink()
    except OSError as error:
        raise UserError(
            f"{partial} cannot be written: {error.strerror}; fix that and run the same command again, which "
            "continues from there"
        ) from error
    on_progress(len(corpus))
    return DistillationReport(len(corpus), num_resumed, too_long)


def check_output(output: Path) -> None:
    """Check, before a teacher is loaded, that there is a place for a new corpus.

    Raises:
        UserError: If the file exists already, its folder does not, or its name asks for a compression that is not
            written.
    """
    if output.exists():
        raise UserError(f"{output} exists already; choose another name or delete it")
    check_ending(output)
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}; make it first")


def _decode(
    teacher: SequenceGenerator, window: Sequence[Example], *, as_line: Callable[[Example, str], str]
) -> Iterator[tuple[int | None, str]]:
    """Yield the lines of a window; with its number in the window, from 1, where the source was too long."""
    outputs = teacher.generate_batch(sources_of(window))
    for number, (example, written) in enumerate(zip(window, outputs, strict=True), start=1):
        target = example.target if written.error else written.text
        yield (number if written.error else None), as_line(example, target)


def _line_maker(corpus: Sequence[Example], output: Path) -> Callable[[Example, str], str]:
    """Return what turns an example and its new target into a line: every line of a corpus has the same fields."""
    if not output.name.removesuffix(".gz").endswith(".jsonl"):
        return lambda example, target: one_line(target)
    if not any(example.history for example in corpus):
        return lambda example, target: json.dumps({"source": example.source, "target": target}, ensure_ascii=False)

    def conversation(example: Example, target: str) -> str:
        turns = [*example.history, Message("user", example.source), Message("assistant", target)]
        return json.dumps({"messages": [asdict(turn) for turn in turns]}, ensure_ascii=False)

    return conversation


def _claim(partial: Path, record: Path, task: _Task) -> int:
    """Make the partial corpus this task's, cut it after its last whole window, and return its lines."""
    if not partial.exists():
        record.write_text(json.dumps(asdict(task)), encoding="utf-8")
        partial.touch()
        return 0
    try:
        there = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = {}
    here = json.loads(json.dumps(asdict(task)))
    differing = [name for name in here if there.get(name) != here[name]]
    if differing:
        raise UserError(
            f"{partial} was left by another distillation (its {' and '.join(differing)} differ); delete it, or choose "
            "another output"
        )
    content = partial.read_bytes()
    # The lines after the last whole window may be cut short, and their batches would be other ones.
    num_lines = content.count(b"\n") // _WINDOW * _WINDOW
    end = 0
    for _ in range(num_lines):
        end = content.index(b"\n", end) + 1
    os.truncate(partial, end)
    return num_lines


def _too_long(teacher: SequenceGenerator, corpus: Sequence[Example]) -> list[int]:
    longest = teacher.max_source_length
    lengths = (len(ids) for ids in encode_sources(teacher.tokenizer, sources_of(corpus)))
    return [number for number, length in enumerate(lengths, start=1) if length > longest]


def _hash_of_sources(corpus: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in corpus:
        digest.update("\n".join([*(message.content for message in example.history), example.source, ""]).encode())
    return digest.hexdigest()
