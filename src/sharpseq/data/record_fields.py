"""Fields of records, from JSON files or data sets, with errors that name the record and the field."""

from __future__ import annotations

from typing import Any

from sharpseq.data.examples import Example
from sharpseq.data.unicode_text import surrogate_fault
from sharpseq.errors import UserError

_KINDS = {
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


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
    source_text, target_text = (text_in_field(record, field, where=where) for field in (source, target))
    if references is None:
        return Example(source_text, target_text)
    value = _value(record, references, where=where)
    listed = [value] if isinstance(value, str) else value
    if not (isinstance(listed, list) and listed and all(isinstance(text, str) for text in listed)):
        found = "an empty list" if value == [] else kind_of(value)
        raise UserError(f"{where}: field `{references}` holds {found}; it must hold one text or a list of texts")
    for text in listed:
        _check_whole(text, references, where=where)
    return Example(source_text, target_text, references=tuple(listed))


def text_in_field(record: dict[str, Any], field: str, *, where: str) -> str:
    r"""Return the text in a field of a record.

    Args:
        record: Field names and values.
        field: Name of the field; a dot steps into a nested record unless a field has the whole name.
        where: How error messages refer to this record.

    Raises:
        UserError: If the field is missing (with the fields that there are), or does not hold text with whole
            characters.

    Example:
        >>> text_in_field({"text": "half an emoji: \ud83d"}, "text", where="corpus.jsonl:3")
        Traceback (most recent call last):
        sharpseq.errors.UserError: corpus.jsonl:3: field `text` has half a character at position 16, the lone surrogate
        \ud83d; write the whole character, or drop it
    """
    value = _value(record, field, where=where)
    if not isinstance(value, str):
        raise UserError(f"{where}: field `{field}` holds {kind_of(value)}; it must hold text")
    _check_whole(value, field, where=where)
    return value


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


def listed_fields(record: dict[str, Any]) -> str:
    """Return the fields of a record as error messages list them."""
    return ", ".join(f"`{name}`" for name in field_names(record)) or "none"


def kind_of(value: object) -> str:
    """Return what kind of value this is, in the words of JSON.

    Example:
        >>> kind_of(3), kind_of({})
        ('a number', 'an object')
    """
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _value(record: dict[str, Any], field: str, *, where: str) -> Any:
    if field in record:
        return record[field]
    value: Any = record
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"{where}: no field `{field}`; the fields there are: {listed_fields(record)}")
        value = value[name]
    return value


def _check_whole(text: str, field: str, *, where: str) -> None:
    fault = surrogate_fault(text)
    if fault:
        raise UserError(f"{where}: field `{field}` has {fault}; write the whole character, or drop it")
