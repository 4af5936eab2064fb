"""Corpora in text files: parallel text, tab-separated columns, JSON lines.

Every reader comes in two versions: ``read_…`` returns a list, and ``stream_…`` yields examples as it reads. All of them
normalise texts to NFC by default, see `sharpseq.data.unicode_text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from sharpseq.data.examples import Example
from sharpseq.data.json_records import stream_json_records
from sharpseq.data.record_fields import example_from_record
from sharpseq.data.text_files import StrPath, iter_lines
from sharpseq.data.unicode_text import normalize_example
from sharpseq.errors import UserError
from sharpseq.plain_text import UnicodeNormalization


def read_parallel_text(
    source: StrPath,
    target: StrPath,
    *,
    references: Sequence[StrPath] | None = None,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> list[Example]:
    """Read two or more files in which lines with the same number belong together.

    Args:
        source: File of source lines, plain or ``.gz``.
        target: File of target lines.
        references: Files of reference lines, one file per reference; the target alone when not given.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each line, empty lines included.

    Raises:
        UserError: If a file cannot be read or the files have different numbers of lines.
    """
    return list(
        stream_parallel_text(source, target, references=references, unicode_normalization=unicode_normalization)
    )


def stream_parallel_text(
    source: StrPath,
    target: StrPath,
    *,
    references: Sequence[StrPath] | None = None,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> Iterator[Example]:
    """Read parallel files as :func:`read_parallel_text` does, without holding them in memory.

    Args:
        source: File of source lines, plain or ``.gz``.
        target: File of target lines.
        references: Files of reference lines, one file per reference; the target alone when not given.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

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
        yield normalize_example(Example(lines[0], lines[1], references=lines[2:]), unicode_normalization)


def read_tsv(
    path: StrPath,
    *,
    source_column: int = 0,
    target_column: int = 1,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> list[Example]:
    r"""Read a file of tab-separated columns.

    A tab always separates columns and ``\n`` always ends a row. Quotation marks have no special meaning, and there is
    no header.

    Args:
        path: The file, plain or ``.gz``.
        source_column: Column of the source text, from 0.
        target_column: Column of the target text, from 0.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each row.

    Raises:
        UserError: If the file cannot be read or a row has too few columns (with the line).
        ValueError: If a column is negative.
    """
    return list(
        stream_tsv(
            path,
            source_column=source_column,
            target_column=target_column,
            unicode_normalization=unicode_normalization,
        )
    )


def stream_tsv(
    path: StrPath,
    *,
    source_column: int = 0,
    target_column: int = 1,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> Iterator[Example]:
    """Read tab-separated columns as :func:`read_tsv` does, without holding them in memory.

    Args:
        path: The file, plain or ``.gz``.
        source_column: Column of the source text, from 0.
        target_column: Column of the target text, from 0.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

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
        yield normalize_example(Example(columns[source_column], columns[target_column]), unicode_normalization)


def read_jsonl(
    path: StrPath,
    *,
    source: str = "source",
    target: str = "target",
    references: str | None = None,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> list[Example]:
    """Read a file with one JSON object on each line.

    Args:
        path: The file, plain or ``.gz``. Blank lines are skipped.
        source: Field of the source text; a dot steps into an object, as in ``translation.de``.
        target: Field of the target text.
        references: Field of the references, a list of texts or one text; the target alone when not given.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each record.

    Raises:
        UserError: If the file cannot be read, or a line is not a JSON object or lacks a field (with the line).
    """
    return list(
        stream_jsonl(
            path,
            source=source,
            target=target,
            references=references,
            unicode_normalization=unicode_normalization,
        )
    )


def stream_jsonl(
    path: StrPath,
    *,
    source: str = "source",
    target: str = "target",
    references: str | None = None,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> Iterator[Example]:
    """Read JSON lines as :func:`read_jsonl` does, without holding them in memory.

    Args:
        path: The file, plain or ``.gz``. Blank lines are skipped.
        source: Field of the source text; a dot steps into an object, as in ``translation.de``.
        target: Field of the target text.
        references: Field of the references, a list of texts or one text; the target alone when not given.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Yields:
        One example for each record.

    Raises:
        UserError: When the iterator reaches a line that is not a JSON object or lacks a field.
    """
    for where, record in stream_json_records(path):
        example = example_from_record(record, where=where, source=source, target=target, references=references)
        yield normalize_example(example, unicode_normalization)


def read_sources(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> list[Example]:
    """Read source lines without targets, for generation.

    Args:
        path: File of source lines, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each line, with an empty target.

    Raises:
        UserError: If the file cannot be read.
    """
    return [normalize_example(Example(line, ""), unicode_normalization) for line in iter_lines(path)]
