"""Corpora in text files: the same from a list and from a stream, and faults with their line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sharpseq.data import (
    Example,
    read_jsonl,
    read_parallel_text,
    read_sources,
    read_tsv,
    stream_jsonl,
    stream_parallel_text,
    stream_tsv,
)
from sharpseq.errors import UserError

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_example_references_default_to_the_target() -> None:
    assert Example("a", "b").references == ("b",)
    assert Example("a", "b", references=("c", "d")).references == ("c", "d")


def test_parallel_text(tmp_path: Path) -> None:
    source = write(tmp_path / "a.en", "one\n\nthree\u2028lines\n")
    target = tmp_path / "a.de.gz"
    target.write_bytes(gzip.compress(b"eins\r\n\r\ndrei\r\n"))
    assert read_parallel_text(source, target) == [
        Example("one", "eins"),
        Example("", ""),
        Example("three\u2028lines", "drei"),
    ]
    assert list(stream_parallel_text(source, target)) == read_parallel_text(source, target)


def test_parallel_text_with_references(tmp_path: Path) -> None:
    source, target = write(tmp_path / "s", "a\nb\n"), write(tmp_path / "t", "A\nB\n")
    references = [target, write(tmp_path / "r", "AA\nBB\n")]
    examples = read_parallel_text(source, target, references=references)
    assert examples == [Example("a", "A", references=("A", "AA")), Example("b", "B", references=("B", "BB"))]


@pytest.mark.parametrize(("numbers"), [(2, 5), (5, 2), (0, 1), (1, 0)])
def test_unequal_counts_are_both_told(tmp_path: Path, numbers: tuple[int, int]) -> None:
    source = write(tmp_path / "s.txt", "x\n" * numbers[0])
    target = write(tmp_path / "t.txt", "\n" * numbers[1])
    with pytest.raises(UserError, match=rf"s\.txt has {numbers[0]}, \S*t\.txt has {numbers[1]};"):
        read_parallel_text(source, target)


def test_unequal_references(tmp_path: Path) -> None:
    source, target = write(tmp_path / "s", "a\nb\nc\n"), write(tmp_path / "t", "A\nB\nC\n")
    with pytest.raises(UserError, match=r"s has 3, \S*t has 3, \S*r has 1;"):
        read_parallel_text(source, target, references=[write(tmp_path / "r", "A\n")])


def test_streaming_yields_before_it_fails(tmp_path: Path) -> None:
    stream = stream_parallel_text(write(tmp_path / "s", "a\nb\n"), write(tmp_path / "t", "A\n"))
    assert next(stream) == Example("a", "A")
    with pytest.raises(UserError):
        next(stream)


def test_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", '1\tein "Hund\ta dog\n2\t\t\n')
    assert read_tsv(path, source_column=1, target_column=2) == [Example('ein "Hund', "a dog"), Example("", "")]
    assert list(stream_tsv(path, source_column=2, target_column=0)) == [Example("a dog", "1"), Example("", "2")]
    with pytest.raises(ValueError, match="`target_column` must be at least 0; got -1"):
        read_tsv(path, target_column=-1)


def test_tsv_with_too_few_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv", "a\tb\nc\n")
    with pytest.raises(UserError, match=r"c\.tsv:2: 1 tab-separated column\(s\) where 2 are needed"):
        read_tsv(path)


def test_jsonl(tmp_path: Path) -> None:
    records = [
        {"translation": {"de": "ein\u2028Hund", "en": "a dog"}, "others": ["the dog", "dog"], "a.b": "whole"},
        {"translation": {"de": "", "en": "nothing"}, "others": "nought", "a.b": "name"},
    ]
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path = write(tmp_path / "c.jsonl", text + "\n\n")
    fields = {"source": "translation.de", "target": "translation.en"}
    assert read_jsonl(path, **fields) == [Example("ein\u2028Hund", "a dog"), Example("", "nothing")]
    assert [e.references for e in stream_jsonl(path, references="others", **fields)] == [
        ("the dog", "dog"),
        ("nought",),
    ]
    assert [example.source for example in read_jsonl(path, source="a.b", target="a.b")] == ["whole", "name"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"source": "a"', r"c\.jsonl:2: not valid JSON"),
        ("[1, 2]", r"c\.jsonl:2: a list; each line must be one JSON object"),
        ('{"source": "a", "t": {"x": "b"}}', r"c\.jsonl:2: no field `target`; the fields there are: `source`, `t\.x`"),
        ('{"source": 3, "target": "b"}', r"c\.jsonl:2: field `source` holds a number; it must hold text"),
        ('{"source": "a", "target": null}', r"c\.jsonl:2: field `target` holds null"),
        ("{}", r"c\.jsonl:2: no field `source`; the fields there are: none"),
    ],
)
def test_jsonl_faults(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "c.jsonl", f'{{"source": "a", "target": "b"}}\n{line}\n')
    with pytest.raises(UserError, match=message):
        read_jsonl(path)


@pytest.mark.parametrize("value", ["[]", "[1]", "3"])
def test_jsonl_references_must_be_texts(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "c.jsonl", f'{{"source": "a", "target": "b", "r": {value}}}\n')
    with pytest.raises(UserError, match=r"c\.jsonl:1: field `r` holds"):
        read_jsonl(path, references="r")


def test_sources_keep_empty_lines(tmp_path: Path) -> None:
    assert [example.source for example in read_sources(write(tmp_path / "s", "a\n\nb\n"))] == ["a", "", "b"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets in ../shared/data, beside the repository")
def test_real_corpora() -> None:
    folder = SHARED / "multi30k"
    examples = read_parallel_text(folder / "val.en.gz", folder / "val.de.gz")
    assert len(examples) == 1014
    assert all(example.source and example.target for example in examples)
    summaries = read_jsonl(SHARED / "debian" / "summaries.test.jsonl.gz", source="document", target="summary")
    assert len(summaries) == 500
