"""Alpaca's instructions and lists of messages."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpseq.data import Example, Message, read_alpaca, read_messages, stream_alpaca, stream_messages
from sharpseq.errors import UserError

RECORDS = [
    {"instruction": "Translate.", "input": "ein Hund", "output": "a dog"},
    {"instruction": "Say\nhello.", "input": "", "output": "hello"},
    {"instruction": "No input.", "output": ""},
    {"instruction": "Null input.", "input": None, "output": "[]"},
]
EXAMPLES = [
    Example("Translate.\n\n### Input:\nein Hund", "a dog"),
    Example("Say\nhello.", "hello"),
    Example("No input.", ""),
    Example("Null input.", "[]"),
]


def written(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def lines_of(records: list[Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_an_alpaca_list_may_stand_in_one_line_of_any_length(tmp_path: Path) -> None:
    record = {"instruction": "Copy.", "output": "a" * 100_000}
    assert len(read_alpaca(written(tmp_path / "list.json", json.dumps([record] * 50)))) == 50


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", lines_of(RECORDS)),
        ("a.jsonl.gz", lines_of(RECORDS)),
        ("a.jsonl", "\n\n" + lines_of(RECORDS) + "\n"),
        ("a.json", json.dumps(RECORDS)),
        ("a.json", json.dumps(RECORDS, indent=2)),
        ("a.json.gz", "\n \n  " + json.dumps(RECORDS, indent=2).replace("},", "}\n,") + "\n\n"),
    ],
)
@pytest.mark.parametrize("read", [read_alpaca, stream_alpaca])
def test_alpaca_in_lines_and_in_one_list(
    tmp_path: Path, name: str, text: str, read: Callable[[Path], Iterator[Example]]
) -> None:
    assert list(read(written(tmp_path / name, text))) == EXAMPLES


@pytest.mark.parametrize("text", ["", "\n", "[]", "\n[\n]\n"])
def test_an_alpaca_file_of_nothing(tmp_path: Path, text: str) -> None:
    assert read_alpaca(written(tmp_path / "a.json", text)) == []


GOOD = '{"instruction": "a", "output": "b"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GOOD}\n{{]\n", r"a.json:2: not valid JSON \(.*\); each line must be one JSON object"),
        (f"{GOOD}\n[1]\n", r"a.json:2: a list; each line must be one JSON object"),
        (f"[{GOOD},\n{{]\n", r"a.json:2: not valid JSON \(.*\); the file must be a list of JSON objects"),
        (f"[\n{GOOD},\n\n{GOOD}", r"a.json:4: not valid JSON \(a comma or the end of the list is missing\)"),
        (f"[\n{GOOD}\n{GOOD}]", r"a.json:3: not valid JSON \(a comma or the end of the list is missing\)"),
        (f"[{GOOD},\n]", r"a.json:2: not valid JSON"),
        ("[", r"a.json:1: not valid JSON"),
        (f"[{GOOD}]\n{GOOD}", r"a.json:2: not valid JSON \(there is text after the end of the list\)"),
        (f"\n[{GOOD},\n 7]", r"a.json:3: a number; the file must be a list of JSON objects"),
        (f'[{GOOD},\n {{"instruction":\n "a"}}]', r"a.json:2: no field `output`; the fields there are: `instruction`"),
        ('{"instruction": 1, "output": "b"}', r"a.json:1: field `instruction` holds a number; it must hold text"),
        ('{"instruction": "a", "input": [], "output": "b"}', r"a.json:1: field `input` holds a list"),
        ('{"instruction": "a", "output": null}', r"a.json:1: field `output` holds null; it must hold text"),
        ("{}", r"a.json:1: no field `instruction`; the fields there are: none"),
    ],
)
def test_what_is_wrong_with_an_alpaca_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_alpaca(written(tmp_path / "a.json", text))


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_the_last_answer_is_the_target(tmp_path: Path) -> None:
    conversations = [
        [turn("user", "a"), turn("assistant", "b")],
        [turn("system", "s"), turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")],
        [turn("user", "a"), turn("assistant", "b"), turn("user", "thanks")],
    ]
    text = lines_of([{"id": number, "messages": turns} for number, turns in enumerate(conversations)])
    path = written(tmp_path / "m.jsonl", text + "\n")
    history = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"))
    expected = [Example("a", "b"), Example("c", "d", history=history), Example("a", "b")]
    assert read_messages(path) == expected
    assert list(stream_messages(path)) == expected
    assert expected[1].references == ("d",)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"turns": []}, r"m.jsonl:2: no list `messages`; the fields there are: `turns`"),
        ({"messages": "x"}, r"m.jsonl:2: no list `messages`"),
        ({"messages": []}, r"m.jsonl:2: no message with the role `assistant`"),
        ({"messages": [turn("user", "a")]}, r"m.jsonl:2: no message with the role `assistant`"),
        ({"messages": [turn("assistant", "a")]}, r"m.jsonl:2: the last .* must follow .* `user`; it follows nothing"),
        ({"messages": [turn("system", "a"), turn("assistant", "b")]}, r"m.jsonl:2: .* it follows `system`"),
        ({"messages": ["hello"]}, r"m.jsonl:2, message 1: a text; it must be an object with `role` and `content`"),
        ({"messages": [turn("user", "a"), {"role": "user"}]}, r"m.jsonl:2, message 2: no field `content`"),
        ({"messages": [{"role": "user", "content": [{}]}]}, r"m.jsonl:2, message 1: field `content` holds a list"),
    ],
)
def test_what_is_wrong_with_a_conversation_is_told_with_its_line(tmp_path: Path, record: Any, message: str) -> None:
    good = {"messages": [turn("user", "a"), turn("assistant", "b")]}
    with pytest.raises(UserError, match=message):
        read_messages(written(tmp_path / "m.jsonl", lines_of([good, record])))
