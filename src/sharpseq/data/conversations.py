"""Corpora for instruction tuning: instructions in Alpaca's format, and conversations as lists of messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sharpseq.data.examples import Example, Message
from sharpseq.data.json_records import stream_json_list_or_records, stream_json_records
from sharpseq.data.record_fields import kind_of, listed_fields, text_in_field
from sharpseq.data.text_files import StrPath
from sharpseq.data.unicode_text import normalize_example
from sharpseq.errors import UserError
from sharpseq.plain_text import UnicodeNormalization

_INPUT_HEADING = "\n\n### Input:\n"


def read_alpaca(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> list[Example]:
    r"""Read instructions in the format of Stanford Alpaca: ``instruction``, ``input`` and ``output``.

    The source is the instruction, followed by ``\n\n### Input:\n`` and the input if there is one.

    Args:
        path: JSON lines or one JSON list, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each record.

    Raises:
        UserError: If the file cannot be read, or a record lacks a field or has no text in it (with the line).
    """
    return list(stream_alpaca(path, unicode_normalization=unicode_normalization))


def stream_alpaca(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> Iterator[Example]:
    """Read instructions as :func:`read_alpaca` does, without holding JSON lines in memory.

    Args:
        path: JSON lines or one JSON list, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Yields:
        One example for each record.

    Raises:
        UserError: When the iterator reaches a record that lacks a field or has no text in it.
    """
    for where, record in stream_json_list_or_records(path):
        instruction, output = (text_in_field(record, field, where=where) for field in ("instruction", "output"))
        # Records without an input leave the field out, or set it to null.
        more = text_in_field(record, "input", where=where) if record.get("input") is not None else ""
        example = Example(instruction + (_INPUT_HEADING + more if more else ""), output)
        yield normalize_example(example, unicode_normalization)


def read_messages(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> list[Example]:
    """Read conversations, each a list ``messages`` of objects with a ``role`` and a ``content``.

    The last assistant message is the target, the user message before it is the source, and all earlier messages are
    the history. Messages after the last assistant message are left out.

    Args:
        path: JSON lines, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One example for each conversation.

    Raises:
        UserError: If the file cannot be read, or a conversation has another structure (with the line).
    """
    return list(stream_messages(path, unicode_normalization=unicode_normalization))


def stream_messages(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> Iterator[Example]:
    """Read conversations as :func:`read_messages` does, without holding them in memory.

    Args:
        path: JSON lines, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Yields:
        One example for each conversation.

    Raises:
        UserError: When the iterator reaches a conversation with another structure.
    """
    for where, record in stream_json_records(path):
        turns = _turns(record, where=where)
        answers = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
        if not answers:
            raise UserError(f"{where}: no message with the role `assistant`: there is nothing to learn; drop the line")
        last = answers[-1]
        before = f"`{turns[last - 1].role}`" if last else "nothing"
        if before != "`user`":
            raise UserError(
                f"{where}: the last assistant message must follow a message with the role `user`; it follows {before}"
            )
        example = Example(turns[last - 1].content, turns[last].content, history=tuple(turns[: last - 1]))
        yield normalize_example(example, unicode_normalization)


def _turns(record: dict[str, Any], *, where: str) -> list[Message]:
    listed = record.get("messages")
    if not isinstance(listed, list):
        raise UserError(f"{where}: no list `messages`; the fields there are: {listed_fields(record)}")
    return messages_in(listed, where=where)


def messages_in(listed: Sequence[object], *, where: str) -> list[Message]:
    """Return the messages of a list of records.

    Args:
        listed: Each a mapping with ``role`` and ``content``.
        where: The place of the list, for errors.

    Raises:
        UserError: If one is none, or lacks a field.
    """
    turns = []
    for number, turn in enumerate(listed, start=1):
        place = f"{where}, message {number}"
        if not isinstance(turn, dict):
            raise UserError(f"{place}: {kind_of(turn)}; it must be an object with `role` and `content`")
        turns.append(Message(text_in_field(turn, "role", where=place), text_in_field(turn, "content", where=place)))
    return turns
