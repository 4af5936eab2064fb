"""Outcomes and how often they occur: the built-in example, or a file of a user."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sharpseq.data.text_files import read_lines
from sharpseq.errors import UserError
from sharpseq.number_text import read_number


@dataclass(frozen=True)
class OutcomeCounts:
    """Outcomes of one input, most frequent first.

    Args:
        name: Where they come from.
        outcomes: The outcomes, all different.
        counts: How often each occurs, above 0; probabilities will do.
        lengths: T of each in tokens, at least 1.
    """

    name: str
    outcomes: tuple[str, ...]
    counts: tuple[float, ...]
    lengths: tuple[float, ...]

    @property
    def p_data(self) -> tuple[float, ...]:
        """Return the share of each outcome."""
        total = math.fsum(self.counts)
        return tuple(count / total for count in self.counts)


def outcome_counts(rows: Sequence[tuple[str, float, float]], *, name: str) -> OutcomeCounts:
    """Return rows of outcome, count and length in the order of their counts; outcomes that never occur are left out."""
    kept = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])
    outcomes, counts, lengths = zip(*kept, strict=True)
    return OutcomeCounts(name, outcomes, counts, lengths)


VIELEN_DANK = outcome_counts(
    [
        ("thank you", 38, 2),
        ("thanks", 24, 1),
        ("many thanks", 16, 2),
        ("thank you very much", 12, 4),
        ("thanks a lot", 6, 3),
        ("much obliged", 4, 2),
    ],
    name="100 translations of “Vielen Dank”",
)
"""Made up, as the example that every paper on one-pass models begins with."""


def read_counts(path: str | os.PathLike[str]) -> OutcomeCounts:
    """Read outcomes from lines of ``outcome TAB count`` or ``outcome TAB count TAB length``.

    Where the length is left out, it is the number of words of the outcome.

    Raises:
        UserError: If the file cannot be read, holds no outcome that occurs, or a line is not of this form.
    """
    rows: list[tuple[str, float, float]] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{os.fspath(path)}:{number}"
        cells = line.split("\t")
        if len(cells) not in (2, 3):
            raise UserError(f"{where}: {len(cells)} columns; give outcome, count and perhaps length, with tabs between")
        outcome = cells[0].strip()
        if not outcome:
            raise UserError(f"{where}: the outcome is empty; give one, or drop the line")
        if outcome in lines:
            raise UserError(f"{where}: {outcome!r} stands in line {lines[outcome]} already; add the counts up")
        lines[outcome] = number
        count = _number(cells[1], where=where, name="count", least=0)
        length = _number(cells[2], where=where, name="length", least=1) if len(cells) == 3 else len(outcome.split())
        rows.append((outcome, count, length))
    if not any(count > 0 for _, count, _ in rows):
        raise UserError(f"{os.fspath(path)}: no outcome with a count above 0; give at least one")
    return outcome_counts(rows, name=os.path.basename(os.fspath(path)))


def _number(text: str, *, where: str, name: str, least: float) -> float:
    try:
        return read_number(text, float, least=least)
    except ValueError as error:
        raise UserError(f"{where}: the {name} {text.strip()!r} is not {error}; correct the line") from None
