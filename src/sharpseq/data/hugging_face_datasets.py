"""Data sets from the Hugging Face Hub, or from a local folder in one of its formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sharpseq.data.examples import Example
from sharpseq.data.hub_names import is_missing_path
from sharpseq.data.record_fields import example_from_record
from sharpseq.data.text_files import iter_line_parts, iter_lines
from sharpseq.data.unicode_text import normalize_example
from sharpseq.errors import UserError
from sharpseq.plain_text import UnicodeNormalization

_NAME = re.compile(r"(?=\[)")
"""Where the name of a split ends and a slice begins."""
_STREAMED_SLICE = re.compile(r"([\w.]+)\[([0-9_]*):([0-9_]*)\]")


def load_hugging_face_dataset(
    name_or_path: str,
    *,
    split: str,
    source: str,
    target: str,
    references: str | None = None,
    configuration: str | None = None,
    streaming: bool = False,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> list[Example]:
    """Read one split of a Hugging Face data set into a list.

    Args:
        name_or_path: Hub id, or a local folder: one written by ``save_to_disk``, or one with data files.
        split: Split, such as ``"train"`` or ``"train[:1000]"``.
        source: Column of the source text; a dot steps inside, as in ``translation.de``.
        target: Column of the target text.
        references: Column of the references, a list of texts or one text; the target alone when not given.
        configuration: Configuration of the data set, such as ``"de-en"``, if it has several.
        streaming: Read rows over the network one by one instead of downloading the whole data set first.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each row.

    Raises:
        UserError: If the data set, split or a column does not exist, or the Hub cannot be reached.
        ImportError: If ``datasets`` is not installed.
    """
    return list(
        stream_hugging_face_dataset(
            name_or_path,
            split=split,
            source=source,
            target=target,
            references=references,
            configuration=configuration,
            streaming=streaming,
            unicode_normalization=unicode_normalization,
        )
    )


def stream_hugging_face_dataset(
    name_or_path: str,
    *,
    split: str,
    source: str,
    target: str,
    references: str | None = None,
    configuration: str | None = None,
    streaming: bool = True,
    unicode_normalization: UnicodeNormalization = "nfc",
) -> Iterator[Example]:
    """Read a Hugging Face data set as :func:`load_hugging_face_dataset` does, row by row.

    Args:
        name_or_path: Hub id, or a local folder.
        split: Split, such as ``"train"``, or slice, such as ``"train[:1000]"``. Where rows are streamed from the Hub,
            slices are counted from the beginning: no ``"train[-10:]"`` and no percent.
        source: Column of the source text; a dot steps inside, as in ``translation.de``.
        target: Column of the target text.
        references: Column of the references; the target alone when not given.
        configuration: Configuration of the data set, if it has several.
        streaming: Read rows over the network one by one instead of downloading the whole data set first.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Yields:
        One example for each row.

    Raises:
        UserError: If the data set, split or a column does not exist, or the Hub cannot be reached.
        ImportError: If ``datasets`` is not installed.
    """
    failures = _failures()
    try:
        rows = enumerate(_open(name_or_path, split=split, configuration=configuration, streaming=streaming), start=1)
    except StopIteration:  # from the library, for a file of JSON with nothing in it
        raise UserError(f"{name_or_path} ({split}): the data set has no rows; check its files") from None
    except failures as error:
        raise UserError(_reported(error, name_or_path=name_or_path, split=split)) from error
    while True:
        # Only errors from fetching a row are about the data set; what the consumer raises passes through untouched.
        try:
            number, row = next(rows)
        except StopIteration:
            return
        except failures as error:
            raise UserError(_reported(error, name_or_path=name_or_path, split=split)) from error
        where = f"{name_or_path} ({split}) row {number}"
        example = example_from_record(row, where=where, source=source, target=target, references=references)
        yield normalize_example(example, unicode_normalization)


def _open(name_or_path: str, *, split: str, configuration: str | None, streaming: bool) -> Any:
    import datasets

    folder = Path(name_or_path)
    if is_missing_path(name_or_path):
        raise FileNotFoundError("there is no such folder")
    if (folder / "dataset_dict.json").is_file():
        return _part(datasets.load_from_disk(name_or_path), split)
    if (folder / "state.json").is_file():
        only = datasets.load_from_disk(name_or_path)
        return _part({str(only.split or _NAME.split(split)[0]): only}, split)
    _check_line_ends(folder)
    if folder.is_dir() and not split.isidentifier():
        streaming = False  # The library streams no slices; what lies on this machine need not be streamed.
    if streaming and "[" in split:
        name, start, stop = _streamed_slice(split)
        return islice(datasets.load_dataset(name_or_path, configuration, split=name, streaming=True), start, stop)
    return datasets.load_dataset(name_or_path, configuration, split=split, streaming=streaming)


def _check_line_ends(folder: Path) -> None:
    """Refuse data files without line ends: the library reads a line whole, and takes twenty times its size."""
    for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
        name = file.name.removesuffix(".gz")
        if not name.endswith((".csv", ".tsv", ".jsonl", ".json")) or not file.is_file():
            continue
        _, start, _ = next(iter_line_parts(file, longest=80), (1, "", True))
        if not (name.endswith(".json") and start.lstrip().startswith("[")):  # a list may be on one line
            next(iter_lines(file), None)


def _streamed_slice(split: str) -> tuple[str, int | None, int | None]:
    """Return the name, the first row and the row after the last of a slice that needs no length."""
    found = _STREAMED_SLICE.fullmatch(split)
    if found is None:
        raise ValueError(
            f"rows that are streamed are counted from the beginning only, as in `train[10:20]`; got `{split}`"
        )
    start, stop = (int(number) if number else None for number in found.group(2, 3))
    return found[1], start, stop


def _part(splits: Mapping[str, Any], split: str) -> Any:
    """Return what a split or slice names of saved splits, such as ``train[:10]``, ``train[50%:]`` or ``train+test``."""
    import datasets

    missing = [name for part in split.split("+") if (name := _NAME.split(part.strip())[0]) not in splits]
    if missing:
        raise ValueError(f"there is no split `{missing[0]}`; the splits there are: {', '.join(splits)}")
    lengths = {name: len(rows) for name, rows in splits.items()}
    parts = [part for part in datasets.ReadInstruction.from_spec(split).to_absolute(lengths) if part.from_ < part.to]
    if not parts:
        raise ValueError(f"`{split}` has no rows")
    return datasets.concatenate_datasets([splits[part.splitname].select(range(part.from_, part.to)) for part in parts])


def _failures() -> tuple[type[Exception], ...]:
    try:
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ImportError(
            "reading Hugging Face data sets needs the package `datasets`: pip install 'sharpseq[datasets]'"
        ) from None
    # Network and Hub errors are OSErrors; unknown splits, configurations and unreadable files are ValueErrors.
    return (OSError, ValueError, DatasetsError)


def _reported(error: Exception, *, name_or_path: str, split: str) -> str:
    root = error.__cause__ or error
    reason = " ".join(str(root).split()) or type(root).__name__
    fix = "check the name, the split and the connection (a local folder works offline)"
    return f"{name_or_path} ({split}): the data set cannot be read: {reason}; {fix}"
