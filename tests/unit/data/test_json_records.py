"""JSON lists and JSON lines: read as they go, whatever the reads cut them into."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpseq.data import json_records
from sharpseq.data.json_records import stream_json_list_or_records
from sharpseq.errors import UserError

RECORD = {"a": "x\\y\n\u2028é\U0001f600", "b": [1.5, -2, None, True, {"c": "]},"}]}


@pytest.mark.parametrize("read_at_once", [1, 2, 7, 16, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_at_once: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_records, "_READ_AT_ONCE", read_at_once)
    path = tmp_path / "list.json"
    for ensure_ascii in (True, False):
        text = json.dumps([RECORD] * 7, indent=indent, ensure_ascii=ensure_ascii)
        path.write_text(text, encoding="utf-8")
        for longest in (200, 201, 202, 203, 10_000):
            found = list(stream_json_list_or_records(path, longest=longest))
            assert [record for _, record in found] == [RECORD] * 7
            lines = [1] * 7 if indent is None else [2 + 12 * number for number in range(7)]
            assert [place for place, _ in found] == [f"{path}:{line}" for line in lines]


def test_a_long_list_takes_little_memory_and_linear_time(tmp_path: Path) -> None:
    records = [{"instruction": "Copy.", "output": "line\n" * 20}] * 20_000
    path = tmp_path / "list.json"
    for indent in (None, 1):
        path.write_text(json.dumps(records, indent=indent))
        start = time.process_time()
        assert sum(1 for _ in stream_json_list_or_records(path)) == len(records)
        # Counting lines from the beginning for each record took two minutes.
        assert time.process_time() - start < 10
    path.write_text(json.dumps(records * 5))
    assert path.stat().st_size > 12e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in stream_json_list_or_records(path, longest=2**18)) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": "' + "b" * 300, r"f.json:1: not valid JSON \(no object ends within 100 characters\)"),
        ('[\n{"a": 1},\n\n{"a": [' + "1, " * 100, r"f.json:4: not valid JSON \(no object ends within 100 characters"),
        ('{"a": "' + "b" * 300 + '"}', r"f.json:1: the line has more than 100 bytes; the file must be a list"),
        ('[\n\n{"a": 1},\n{"b" 2}]', r"f.json:4: not valid JSON \(Expecting ':' delimiter\)"),
        ('[{"a": 1}\n\n\n', r"f.json:1: not valid JSON \(a comma or the end of the list is missing\)"),
        ("[" * 90, r"f.json:1: not valid JSON"),
    ],
)
def test_faults_of_a_list(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        list(stream_json_list_or_records(path, longest=100))
    assert "\n" not in str(caught.value)


def test_a_fault_is_found_without_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.json"
    path.write_text('[{"a" 1},\n' + '{"a": 1},\n' * 100_000 + "{}]")
    num_read = 0
    read_parts = json_records.iter_line_parts

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        nonlocal num_read
        for part in read_parts(*arguments, **options):
            num_read += 1
            yield part

    monkeypatch.setattr(json_records, "iter_line_parts", counted)
    with pytest.raises(UserError, match=r"f.json:1: not valid JSON \(Expecting ':' delimiter\)"):
        list(stream_json_list_or_records(path))
    assert num_read < 10_000
