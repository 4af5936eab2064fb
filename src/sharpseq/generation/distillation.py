"""Sequence-level knowledge distillation: a corpus in a teacher's words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sharpseq.data import Example, Message, encode_sources, one_line
from sharpseq.decoding import ReachedLimit
from sharpseq.errors import UserError
from sharpseq.generation.fingerprints import fingerprint_of
from sharpseq.generation.incomplete_outputs import ReachedLimits
from sharpseq.generation.sequence_generator import SequenceGenerator, sources_of
from sharpseq.whole_files import check_ending, move_into_place, whole_file, write_whole_file

_WINDOW = 500
"""Examples decoded between two writes: what a kill loses at most."""

_REACHED = "reached_limits"
"""Key of the record: number, limit and remedy of each line that reached a length limit."""


@dataclass(frozen=True)
class DistillationReport:
    """What a distillation did.

    Args:
        num_written: Lines of the finished corpus.
        num_resumed: Lines of them that an earlier, interrupted run had written.
        too_long: Line numbers, from 1, of sources longer than the teacher reads; they keep their own target.
        reached_limits: By line number, from 1: the length limit that a target reached, so that its end may be missing.
    """

    num_written: int
    num_resumed: int
    too_long: list[int]
    reached_limits: Mapping[int, ReachedLimit] = field(default_factory=dict)

    @property
    def limits(self) -> ReachedLimits:
        """The count of all targets and of those that reached a length limit."""
        counted = ReachedLimits()
        counted.add(self.reached_limits.get(number) for number in range(1, self.num_written + 1))
        return counted


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
        num_resumed, reached = _claim(partial, record, task)
        too_long = _too_long(teacher, corpus[:num_resumed])
        as_line = _line_maker(corpus, output)
        with partial.open("a", encoding="utf-8", newline="\n") as file:
            for start in range(num_resumed, len(corpus), _WINDOW):
                on_progress(start)
                window = corpus[start : start + _WINDOW]
                outputs = teacher.generate_batch(sources_of(window))
                for number, written in enumerate(outputs, start=start + 1):
                    if written.error:
                        too_long.append(number)
                    if written.reached_limit is not None:
                        reached[number] = written.reached_limit
                # First the record: a kill in between leaves numbers of lines that are then decoded again.
                _write_record(record, task, reached)
                for example, written in zip(window, outputs, strict=True):
                    file.write(as_line(example, example.target if written.error else written.text) + "\n")
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
    return DistillationReport(len(corpus), num_resumed, too_long, reached)


def check_output(output: Path) -> None:
    """Check, before a teacher is loaded, that there is a place for a new corpus.

    Raises:
        UserError: If the file exists already, its folder does not, or its name asks for a compression that is not
            written.
    """
    if output.exists():
        partial = output.with_name(output.name + ".partial")
        if not partial.exists():
            # A kill came between the last two steps of writing it.
            partial.with_name(partial.name + ".json").unlink(missing_ok=True)
        raise UserError(f"{output} exists already; choose another name or delete it")
    check_ending(output)
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}; make it first")


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


def _write_record(record: Path, task: _Task, reached: Mapping[int, ReachedLimit]) -> None:
    rows = [[number, limit.num_tokens, limit.remedy] for number, limit in reached.items()]
    write_whole_file(record, json.dumps({**asdict(task), _REACHED: rows}))


def _claim(partial: Path, record: Path, task: _Task) -> tuple[int, dict[int, ReachedLimit]]:
    """Make the partial corpus this task's and cut it after its last whole window.

    Returns:
        The number of its lines, and which of them reached a length limit.
    """
    if not partial.exists():
        _write_record(record, task, {})
        partial.touch()
        return 0, {}
    try:
        there = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{record} is missing or broken, which says what {partial} was made from; delete {partial}, or choose "
            "another output"
        ) from error
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
    reached = {number: ReachedLimit(*limit) for number, *limit in there.get(_REACHED, ())}
    return num_lines, {number: limit for number, limit in reached.items() if number <= num_lines}


def _too_long(teacher: SequenceGenerator, corpus: Sequence[Example]) -> list[int]:
    longest = teacher.max_source_length
    lengths = (len(ids) for ids in encode_sources(teacher.tokenizer, sources_of(corpus)))
    return [number for number, length in enumerate(lengths, start=1) if length > longest]


def _hash_of_sources(corpus: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in corpus:
        digest.update("\n".join([*(message.content for message in example.history), example.source, ""]).encode())
    return digest.hexdigest()
