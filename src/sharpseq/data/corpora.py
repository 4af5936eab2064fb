"""Corpora in text files: parallel text, tab-separated columns, JSON lines.

Every reader comes in two versions: ``read_…`` returns a list, and ``stream_…`` yields examples as it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from sharpseq.data.examples import Example
from sharpseq.data.json_records import stream_json_records
from sharpseq.data.text_files import StrPath, iter_lines
from sharpseq.errors import UserError


def read_parallel_text(
    source: StrPath, target: StrPath, *, references: Sequence[StrPath] | None = None
) -> list[Example]:
    """Read two or more files in which lines with the same number belong together.

    Args:
        source: File of source lines, plain or ``.gz``.
        target: File of target lines.
        references: Files of reference lines, one file per reference; the target alone when not given.

    Returns:
        One example for each line, empty lines included.

    Raises:
        UserError: If a file cannot be read or the files have different numbers of lines.
    """
    return list(stream_parallel_text(source, target, references=references))


def stream_parallel_text(
    source: StrPath, target: StrPath, *, references: Sequence[StrPath] | None = None
) -> Iterator[Example]:
    """Read parallel files as :func:`read_parallel_text` does, without holding them in memory.

    Args:
        source: File of source lines, plain or ``.gz``.
        target: File of target lines.
        references: Files of reference lines, one file per reference; the target alone when not given.

    Yields:
        One example for each line.

    Raises:
        UserError: When the iterator reaches an unreadable line or the end of the shortest file.
    """
    paths = [source, target, *(references or ())]
    readers = [iter_lines(path) for path in paths]
    for number, lines in enumerate(zip_longest(*readers)):
        if None in lines:
            rest = [(line is not None) + sum(1 for _ in reader) for line, reader in zip(lines, readers, strict=True)]
            counts = ", ".join(f"{path} has {number + more}" for path, more in zip(paths, rest, strict=True))
            raise UserError(f"parallel files must have the same number of lines: {counts}; align them line by line")
        yield Example(lines[0], lines[1], references=lines[2:])


def read_tsv(path: StrPath, *, source_column: int = 0, target_column: int = 1) -> list[Example]:
    r"""Read a file of tab-separated columns.

    A tab always separates columns and ``\n`` always ends a row. Quotation marks have no special meaning, and there is
    no header.

    Args:
        path: The file, plain or ``.gz``.
        source_column: Column of the source text, from 0.
        target_column: Column of the target text, from 0.

    Returns:
        One example for each row.

    Raises:
        UserError: If the file cannot be read or a row has too few columns (with the line).
        ValueError: If a column is negative.
    """
    return list(stream_tsv(path, source_column=source_column, target_column=target_column))


def stream_tsv(path: StrPath, *, source_column: int = 0, target_column: int = 1) -> Iterator[Example]:
    """Read tab-separated columns as :func:`read_tsv` does, without holding them in memory.

    Args:
        path: The file, plain or ``.gz``.
        source_column: Column of the source text, from 0.
        target_column: Column of the target text, from 0.

    Yields:
        One example for each row.

    Raises:
        UserError: When the iterator reaches an unreadable line or a row with too few columns.
        ValueError: If a column is negative.
    """
    for name, column in (("source_column", source_column), ("target_column", target_column)):
        if column < 0:
            raise ValueError(f"`{name}` must be at least 0; got {column}")
    needed = max(source_column, target_column) + 1
    for number, line in enumerate(iter_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) < needed:
            raise UserError(
                f"{path}:{number}: {len(columns)} tab-separated column(s) where {needed} are needed; "
                "fix the row or choose other columns"
            )
        yield Example(columns[source_column], columns[target_column])


def read_jsonl(
    path: StrPath, *, source: str = "source", target: str = "target", references: str | None = None
) -> list[Example]:
    """Read a file with one JSON object on each line.

    Args:
        path: The file, plain or ``.gz``. Blank lines are skipped.
        source: Field of the source text; a dot steps into an object, as in ``translation.de``.
        target: Field of the target text.
        references: Field of the references, a list of texts or one text; the target alone when not given.

    Returns:
        One example for each record.

    Raises:
        UserError: If the file cannot be read, or a line is not a JSON object or lacks a field (with the line).
    """
    return list(stream_jsonl(path, source=source, target=target, references=references))


def stream_jsonl(
    path: StrPath, *, source: str = "source", target: str = "target", references: str | None = None
) -> Iterator[Example]:
    """Read JSON lines as :func:`read_jsonl` does, without holding them in memory.

    Args:
        path: The file, plain or ``.gz``. Blank lines are skipped.
        source: Field of the source text; a dot steps into an object, as in ``translation.de``.
        target: Field of the target text.
        references: Field of the references, a list of texts or one text; the target alone when not given.

    Yields:
        One example for each record.

    Raises:
        UserError: When the iterator reaches a line that is not a JSON object or lacks a field.
    """
    for where, record in stream_json_records(path):
        yield example_from_record(record, where=where, source=source, target=target, references=references)


def read_sources(path: StrPath) -> list[Example]:
    """Read source lines without targets, for generation.

    Args:
        path: File of source lines, plain or ``.gz``.

    Returns:
        One example for each line, with an empty target.

    Raises:
        UserError: If the file cannot be read.
    """
    return [Example(line, "") for line in iter_lines(path)]


def example_from_record(
    record: dict[str, Any], *, where: str, source: str, target: str, references: str | None = None
) -> Example:
    """Make an example from one record of a JSON file or a data set.

    Args:
        record: Field names and values.
        where: How error messages refer to this record, such as ``corpus.jsonl:3``.
        source: Field of the source text; a dot steps into a nested record unless a field has the whole name.
        target: Field of the target text.
        references: Field of the references, a list of texts or one text; the target alone when not given.

    Returns:
        The example.

    Raises:
        UserError: If a field is missing (with the fields that there are) or holds anything but text.

    Example:
        >>> record = {"translation": {"de": "ein Hund", "en": "a dog"}}
        >>> example_from_record(record, where="row 1", source="translation.de", target="translation.en")
        Example(source='ein Hund', target='a dog', references=('a dog',), history=())
    """
    texts = {}
    for field in (source, target):
        value = _field(record, field, where=where)
        if not isinstance(value, str):
            raise UserError(f"{where}: field `{field}` holds {_kind(value)}; it must hold text")
        texts[field] = value
    if references is None:
        return Example(texts[source], texts[target])
    value = _field(record, references, where=where)
    listed = [value] if isinstance(value, str) else value
    if not (isinstance(listed, list) and listed and all(isinstance(text, str) for text in listed)):
        raise UserError(f"{where}: field `{references}` holds {_kind(value)}; it must hold one text or a list of texts")
    return Example(texts[source], texts[target], references=tuple(listed))


def field_names(record: dict[str, Any], *, prefix: str = "") -> list[str]:
    """List the fields of a record, nested ones with dots.

    Args:
        record: Field names and values.
        prefix: Put before each name.

    Returns:
        The names of all fields that have no fields inside.

    Example:
        >>> field_names({"id": 1, "translation": {"de": "ein Hund", "en": "a dog"}})
        ['id', 'translation.de', 'translation.en']
    """
    names: list[str] = []
    for name, value in record.items():
        nested = isinstance(value, dict) and value
        names += field_names(value, prefix=f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return names


def _field(record: dict[str, Any], field: str, *, where: str) -> Any:
    if field in record:
        return record[field]
    value: Any = record
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            there = ", ".join(f"`{name}`" for name in field_names(record)) or "none"
            raise UserError(f"{where}: no field `{field}`; the fields there are: {there}")
        value = value[name]
    return value


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return "an empty list" if value == [] else f"a {type(value).__name__}"
