"""Dataclasses to JSON and back, without loss and without guessing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# JSON has no word for these; strings are how protocol buffers and proto3 JSON write them.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_plain(value: Any) -> Any:
    """Turn dataclasses, mappings and sequences into what ``json.dumps`` takes, non-finite numbers into strings.

    Args:
        value: A dataclass, mapping with string keys, sequence, string, number, boolean or None.

    Raises:
        TypeError: If JSON has no form for a value.

    Example:
        >>> to_plain({"score": float("nan"), "values": (1, 2.5)})
        {'score': 'NaN', 'values': [1, 2.5]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a JSON object needs strings for keys; got {key!r}")
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"JSON has no form for {type(value).__name__}: {value!r}")


def from_plain(kind: type[T], value: Any, *, where: str = "") -> T:
    """Build a dataclass from what ``json.loads`` gave, refusing everything that does not fit exactly.

    Args:
        kind: The dataclass. Its fields may be dataclasses, ``tuple[X, ...]``, ``dict[str, X]``, ``X | None``, ``str``,
            ``bool``, ``int``, ``float`` and ``Any``.
        value: A JSON object.
        where: Path of the value in the document, for the message.

    Raises:
        ValueError: If a key is missing or unknown, or a value has another type than its field.

    Example:
        >>> from sharpseq.evaluation.measurement import MetricResult
        >>> plain = {"name": "bleu", "score": "NaN", "signature": None, "higher_is_better": True}
        >>> from_plain(MetricResult, plain)
        MetricResult(name='bleu', score=nan, signature=None, higher_is_better=True)
    """
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    hints = get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise ValueError(f"unknown key {_join(where, key)!r}")
    for key in hints:
        if key not in value:
            raise ValueError(f"missing key {_join(where, key)!r}")
    return kind(**{key: _decode(hint, value[key], where=_join(where, key)) for key, hint in hints.items()})


def _decode(hint: Any, value: Any, *, where: str) -> Any:
    """Return the value as the type that the hint names."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where=where)
    if origin in (Union, UnionType):
        [inner] = [argument for argument in arguments if argument is not NoneType]
        return None if value is None else _decode(inner, value, where=where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _mismatch(where, "a list", value)
        return tuple(_decode(arguments[0], item, where=f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _mismatch(where, "an object", value)
        return {key: _decode(arguments[1], item, where=_join(where, key)) for key, item in value.items()}
    return _decode_scalar(hint, value, where=where)


def _decode_scalar(hint: Any, value: Any, *, where: str) -> Any:
    """Return a string, boolean, integer or float; a boolean is no number and 1 is a float."""
    if hint is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise _mismatch(where, "a number", value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _mismatch(where, {int: "an integer", str: "a string", bool: "true or false"}[hint], value)
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _mismatch(where: str, wanted: str, value: Any) -> ValueError:
    return ValueError(f"{where or 'the document'!r} must be {wanted}; got {json.dumps(value)[:60]}")
