"""Records of JSON files, one object on each line or one list, with errors that name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from sharpseq.data.text_files import StrPath, iter_lines
from sharpseq.errors import UserError

_EACH_LINE = "each line must be one JSON object"
_IN_A_LIST = "the file must be a list of JSON objects, or have one on each line"


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


def stream_json_list_or_records(path: StrPath) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file that is one JSON list of objects, or has one object on each line.

    A list is held in memory as text; its objects are read one by one.

    Args:
        path: The file, plain or ``.gz``.

    Yields:
        The location of each record, the file and the line where it begins, and the record.

    Raises:
        UserError: When the iterator reaches anything but a JSON object.
    """
    # A whole list may be on one line.
    lines = enumerate(iter_lines(path, longest=None), start=1)
    for number, line in lines:
        if line.strip():
            rest = chain([(number, line)], lines)
            is_list = line.lstrip().startswith("[")
            yield from _list_records(rest, path) if is_list else _line_records(rest, path)


def _line_records(lines: Iterator[tuple[int, str]], path: StrPath) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (RecursionError, ValueError) as error:
            raise UserError(f"{where}: not valid JSON ({error}); {_EACH_LINE}") from None
        yield where, _checked(record, where=where, fix=_EACH_LINE)


def _list_records(lines: Iterator[tuple[int, str]], path: StrPath) -> Iterator[tuple[str, dict[str, Any]]]:
    numbers, texts = zip(*lines, strict=True)
    first, text = numbers[0], "\n".join(texts)
    decoder = json.JSONDecoder()

    def line_of(place: int) -> str:
        number = first + text.count("\n", 0, place)
        return f"{path}:{number}"

    def next_sign(place: int) -> int:
        while place < len(text) and text[place] in " \t\r\n":
            place += 1
        return place

    def fail(place: int, reason: str) -> UserError:
        return UserError(f"{line_of(place)}: not valid JSON ({reason}); {_IN_A_LIST}")

    place = next_sign(next_sign(0) + 1)
    at_end = text[place : place + 1] == "]"
    while not at_end:
        try:
            record, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise fail(error.pos, error.msg) from None
        except (RecursionError, ValueError) as error:
            raise fail(place, str(error)) from None
        where = line_of(place)
        yield where, _checked(record, where=where, fix=_IN_A_LIST)
        place = next_sign(end)
        sign = text[place : place + 1]
        if sign not in (",", "]") or not sign:
            raise fail(place, "a comma or the end of the list is missing")
        at_end = sign == "]"
        place = next_sign(place + 1) if not at_end else place
    after = next_sign(place + 1)
    if after < len(text):
        raise fail(after, "there is text after the end of the list")


def _checked(record: object, *, where: str, fix: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f"{where}: a JSON {type(record).__name__}; {fix}")
    return record
