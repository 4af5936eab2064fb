"""Sequence-level knowledge distillation: a corpus in a teacher's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpseq.data import Example
from sharpseq.errors import UserError
from sharpseq.generation import SequenceGenerator

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


def distill_corpus(
    teacher: SequenceGenerator,
    corpus: Sequence[Example],
    output: Path,
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DistillationReport:
    """Decode the sources of a corpus into a new corpus, resuming where an earlier run stopped.

    Lines go to ``output`` with the ending ``.partial`` until all are there.

    Args:
        teacher: The model that writes the new targets.
        corpus: Examples; only their sources are read, and the target of one that is too long.
        output: The new corpus: one target a line, or with the ending ``.jsonl`` objects with ``source`` and ``target``.
        on_progress: Told how many lines are written.

    Returns:
        What was done.

    Raises:
        UserError: If ``output`` exists already or cannot be written, or the interrupted corpus is of other sources.

    References:
        Kim and Rush 2016, "Sequence-level knowledge distillation".
    """
    if output.exists():
        raise UserError(f"{output} exists already; choose another name or delete it")
    partial = output.with_name(output.name + ".partial")
    as_json = output.suffix == ".jsonl"
    done = _whole_lines(partial)
    if len(done) > len(corpus) or (
        as_json
        and any(json.loads(line)["source"] != example.source for line, example in zip(done, corpus, strict=False))
    ):
        raise UserError(f"{partial} was left by a distillation of other sources; delete it")
    too_long = []
    try:
        # Rewritten without the line that a kill may have cut short.
        partial.write_text("".join(line + "\n" for line in done), encoding="utf-8")
        with partial.open("a", encoding="utf-8") as file:
            for start in range(len(done), len(corpus), _WINDOW):
                window = corpus[start : start + _WINDOW]
                on_progress(start)
                for number, (example, written) in enumerate(
                    zip(window, teacher.generate_batch([example.source for example in window]), strict=True),
                    start=start + 1,
                ):
                    target = example.target if written.error else written.text
                    if written.error:
                        too_long.append(number)
                    record = {"source": example.source, "target": target}
                    file.write((json.dumps(record, ensure_ascii=False) if as_json else target) + "\n")
                file.flush()
        partial.replace(output)
    except OSError as error:
        raise UserError(f"{partial} cannot be written: {error.strerror}") from error
    on_progress(len(corpus))
    return DistillationReport(len(corpus), len(done), too_long)


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
