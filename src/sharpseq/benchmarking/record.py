"""What a benchmark has done so far, in a file, so that one that was stopped goes on after the last whole round."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sharpseq.benchmarking.turns import Round, Turn
from sharpseq.whole_files import write_whole_file


@dataclass(frozen=True)
class Written:
    """What a system wrote for all sentences.

    Args:
        texts: The outputs.
        errors: Why there is none, None for an ordinary output.
        settings: How it decoded.
    """

    texts: list[str]
    errors: list[str | None]
    settings: dict[str, Any]


class Record:
    """The record of one benchmark.

    Args:
        file: Where it is kept; nowhere but in memory when not given.
        made_from: A digest of what else the numbers follow from; the record of another one is not read.

    Attributes:
        written: What systems wrote, by system.
        rounds: The rounds that are whole.
    """

    def __init__(self, file: Path | None = None, *, made_from: str = "") -> None:
        self._file = file
        self._made_from = made_from
        self.written: dict[str, Written] = {}
        self.rounds: list[Round] = []
        if file is not None and file.is_file():
            self._read(file)

    def add_written(self, system: str, written: Written) -> None:
        """Keep what a system wrote."""
        self.written[system] = written
        self._save()

    def add_round(self, done: Round) -> None:
        """Keep a whole round."""
        self.rounds.append(done)
        self._save()

    def delete(self) -> None:
        """Delete the file: the benchmark is done."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _save(self) -> None:
        if self._file is not None:
            written = {name: asdict(each) for name, each in self.written.items()}
            content = {
                "made_from": self._made_from,
                "written": written,
                "rounds": [asdict(each) for each in self.rounds],
            }
            write_whole_file(self._file, json.dumps(content))

    def _read(self, file: Path) -> None:
        """Take over what the file holds, unless it is of another benchmark or broken."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["made_from"] != self._made_from:
                return
            written = {name: Written(**each) for name, each in content["written"].items()}
            rounds = [_round(each) for each in content["rounds"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        self.written, self.rounds = written, rounds


def _round(content: dict[str, Any]) -> Round:
    turns = [Turn(**{**turn, "batch_seconds": tuple(turn["batch_seconds"])}) for turn in content["turns"]]
    return Round(content["began"], content["start_seconds"], tuple(turns))
