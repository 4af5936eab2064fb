"""Records of JSON files, one object on each line or one list, with errors that name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from sharpseq.data.record_fields import kind_of
from sharpseq.data.text_files import LONGEST_LINE, StrPath, iter_line_parts, iter_lines
from sharpseq.errors import UserError

_EACH_LINE = "each line must be one JSON object"
_IN_A_LIST = "the file must be a list of JSON objects, or have one on each line"
_READ_AT_ONCE = 2**16
_NEAR_THE_END = 12
"""An error this close to the end of the text that was read may be due to the end; `-Infinity` is the longest word."""


def stream_json_records(path: StrPath) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file with one JSON object on each line, without holding it in memory.

    Args:
        path: The file, plain or ``.gz``. Blank lines are skipped.

    Yields:
        The location of each record, such as ``corpus.jsonl:3``, and the record.

    Raises:
        UserError: When the iterator reaches a line that is not a JSON object.
    """
    return _line_records(enumerate(iter_lines(path), start=1), path)


def stream_json_list_or_records(path: StrPath, *, longest: int = LONGEST_LINE) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file that is one JSON list of objects, or has one object on each line, without holding it in memory.

    Args:
        path: The file, plain or ``.gz``.
        longest: Most bytes of a line with one object, and about the most characters of an object in a list.

    Yields:
        The location of each record, the file and the line where it begins, and the record.

    Raises:
        UserError: When the iterator reaches anything but a JSON object, or one that is too long.
    """
    parts = map(_Part._make, iter_line_parts(path, longest=longest))
    for part in parts:
        if not part.text.strip():
            continue
        rest = chain([part], parts)
        if part.text.lstrip().startswith("["):
            yield from _ListReader(rest, path, longest=longest).records()
        else:
            yield from _line_records(_whole_lines(rest, path, longest=longest), path)


class _Part(NamedTuple):
    line: int
    text: str
    is_whole: bool


def _whole_lines(parts: Iterable[_Part], path: StrPath, *, longest: int) -> Iterator[tuple[int, str]]:
    for part in parts:
        if not part.is_whole:
            raise UserError(f"{path}:{part.line}: the line has more than {longest:,} bytes; {_IN_A_LIST}")
        yield part.line, part.text


def _line_records(lines: Iterable[tuple[int, str]], path: StrPath) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (RecursionError, ValueError) as error:
            raise UserError(f"{where}: not valid JSON ({error}); {_EACH_LINE}") from None
        yield where, _checked(record, where=where, fix=_EACH_LINE)


class _ListReader:
    """Reads the objects of a JSON list one by one, from text that is read as they are needed.

    Args:
        parts: The lines of the file, or parts of them, from the line where the list begins.
        path: The file.
        longest: About the most characters of an object.
    """

    def __init__(self, parts: Iterator[_Part], path: StrPath, *, longest: int) -> None:
        first = next(parts)
        self._parts = chain([first], parts)
        self._path = path
        self._longest = longest
        self._decoder = json.JSONDecoder()
        self._text, self._place = "", 0
        # The line of the character at `_counted`: counting on from there keeps it linear.
        self._line, self._counted = first.line, 0
        self._last_line = first.line

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        self._next_sign()
        self._place += 1  # the bracket
        at_end = self._next_sign() == "]"
        while not at_end:
            where = self._where(self._place)
            record = self._record()
            yield where, _checked(record, where=where, fix=_IN_A_LIST)
            sign = self._next_sign()
            if sign not in (",", "]") or not sign:
                raise self._fault(self._place, "a comma or the end of the list is missing")
            at_end = sign == "]"
            if not at_end:
                self._place += 1
                self._next_sign()
        self._place += 1
        if self._next_sign():
            raise self._fault(self._place, "there is text after the end of the list")

    def _record(self) -> Any:
        while True:
            try:
                record, self._place = self._decoder.raw_decode(self._text, self._place)
                return record
            except json.JSONDecodeError as error:
                may_continue = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR_THE_END
                if may_continue and len(self._text) - self._place > self._longest:
                    reason = f"no object ends within {self._longest:,} characters"
                    raise self._fault(self._place, reason) from None
                distance = error.pos - self._place
                if not (may_continue and self._read_more()):
                    raise self._fault(self._place + distance, error.msg) from None
            except (RecursionError, ValueError) as error:
                raise self._fault(self._place, str(error)) from None

    def _next_sign(self) -> str:
        """Skip white space and return the character after it; the empty string at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        """Drop what has been read and append at least as much as is left; return False at the end of the file."""
        self._count_to(self._place)
        self._text, self._place, self._counted = self._text[self._place :], 0, 0
        more: list[str] = []
        num_wanted = max(_READ_AT_ONCE, len(self._text))
        while num_wanted > 0 and (part := next(self._parts, None)) is not None:
            more.append(part.text + ("\n" if part.is_whole else ""))
            num_wanted -= len(more[-1])
            if part.text.strip():
                self._last_line = part.line
        self._text += "".join(more)
        return bool(more)

    def _count_to(self, place: int) -> None:
        self._line += self._text.count("\n", self._counted, place)
        self._counted = place

    def _where(self, place: int) -> str:
        self._count_to(place)
        # What is missing at the end of the file is missing on its last line that is not blank.
        return f"{self._path}:{min(self._line, self._last_line)}"

    def _fault(self, place: int, reason: str) -> UserError:
        return UserError(f"{self._where(place)}: not valid JSON ({reason}); {_IN_A_LIST}")


def _checked(record: object, *, where: str, fix: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f"{where}: {kind_of(record)}; {fix}")
    return record
