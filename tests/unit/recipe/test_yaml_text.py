"""Recipes read numbers and truth values as YAML 1.2 does, and write what every reader reads alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from sharpseq.errors import UserError
from sharpseq.recipe.yaml_text import read_value, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("no", "yes", "on", "off", "y", "1:30", "2026-01-01", "e5", "1-2")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False")),
        *((word, None) for word in ("~", "null", "")),
        ("010", 10),
        ("08", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("20_000", 20000),
        ("-3", -3),
        ("1e-3", 0.001),
        ("1.e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("'010'", "010"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}", where="recipe")[0]["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_language_may_be_called_no() -> None:
    assert read_yaml("no: 1", where="recipe")[0] == {"no": 1}


def test_readers_of_either_version_read_what_is_written() -> None:
    values = [
        "no",
        "010",
        "0o10",
        "1:30",
        "2026-01-01",
        "1e3",
        "1_000",
        "true",
        "~",
        8,
        1.5,
        1e-5,
        1e22,
        None,
        True,
        "a",
    ]
    text = write_yaml({"values": values})
    assert read_yaml(text, where="recipe")[0]["values"] == values
    assert yaml.safe_load(text)["values"] == values


def test_keys_are_texts_as_they_are_written() -> None:
    words = ["010", "1", "1.5", "true", "no", "~", "null", "1:30", "2026-01-01", "=", "1_000"]
    text = "".join(f"{word}: {{{word}: {number}}}\n" for number, word in enumerate(words))
    content, places = read_yaml(text, where="recipe")
    assert content == {word: {word: number} for number, word in enumerate(words)}
    assert [places.of((word, word)) for word in words] == [f"recipe:{number + 1}" for number in range(len(words))]
    assert read_value("{1: a}") == {"1": "a"}
    assert read_yaml(write_yaml(content), where="recipe")[0] == content
    merged = "a: &a {1: x}\nb: {<<: *a, 2: y}\n"
    assert read_yaml(merged, where="recipe")[0] == {"a": {"1": "x"}, "b": {"1": "x", "2": "y"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: " + "9" * 5000, r"recipe:2: not YAML: Exceeds the limit"),
        ("a: 1\n? [b]\n: 1", r"recipe:2: a key must be a text"),
        ("a: 1\n? {b: c}\n: 1", r"recipe:2: a key must be a text"),
        ("a:\n- !!int x", r"recipe:2: not YAML: invalid literal for int"),
        ("a: !!float x", r"recipe:1: not YAML: could not convert"),
        ("a: !!timestamp 2024-13-45", r"recipe:1: not YAML: month must be in"),
        (
            'a: 1\nb: ["x \\ud83d"]',
            r"recipe:2: not YAML: half a character, the lone surrogate \\ud83d; write the",
        ),
        ('a: 1\n"\\ude00": 2', r"recipe:2: not YAML: half a character, the lone surrogate \\ude00"),
        ("a: 1\nb: x\0", r"recipe:2: not YAML: unacceptable character #x0000"),
        ("a: 1\n\nb: \x1b", r"recipe:3: not YAML: unacceptable character #x001b"),
        ("a: \ud83d", r"recipe:1: not YAML: unacceptable character #xd83d"),
    ],
)
def test_what_is_not_yaml_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(text, where="recipe")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is no value; write a number"):
        read_value(text)


@pytest.mark.parametrize("text", ["=", "1__0", "1_", "_1", "1_.5", "0x_1", "0o9", ".5e", "0b1"])
def test_what_is_no_number_is_a_text(text: str) -> None:
    assert read_value(text) == text
    assert read_value(write_yaml([text])) == [text]


def test_emojis_are_whole_characters() -> None:
    assert read_value('"\\U0001F600"') == "\U0001f600"
    assert read_yaml(write_yaml({"a": "\U0001f600\u2028\0\x1b"}), where="recipe")[0] == {"a": "\U0001f600\u2028\0\x1b"}
