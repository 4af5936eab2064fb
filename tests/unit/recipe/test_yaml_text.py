"""Recipes read numbers and truth values as YAML 1.2 does, and write what every reader reads alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from sharpseq.recipe.yaml_text import read_yaml, write_yaml


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
