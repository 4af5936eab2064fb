"""Preferences: two answers to a prompt of which one is preferred, in the formats of TRL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from sharpseq.data.conversations import messages_in
from sharpseq.data.examples import Example, Message
from sharpseq.data.json_records import stream_json_records
from sharpseq.data.record_fields import kind_of, listed_fields, text_in_field
from sharpseq.data.text_files import StrPath
from sharpseq.data.unicode_text import normalize_example
from sharpseq.errors import UserError
from sharpseq.plain_text import UnicodeNormalization, normalize_text

_ANSWERS = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with an answer that was preferred to another one.

    Args:
        source: The prompt, or the last message of the user.
        chosen: The preferred answer; several where they are samples of the model, as for `d2o`.
        rejected: The other answer.
        history: The conversation before the source.

    Example:
        >>> Preference("ein Hund", ("a dog",), "a cat").example
        Example(source='ein Hund', target='a dog', references=('a dog',), history=())
    """

    source: str
    chosen: tuple[str, ...]
    rejected: str
    history: tuple[Message, ...] = ()

    @property
    def example(self) -> Example:
        """The prompt with its first chosen answer, to learn from it alone."""
        return Example(self.source, self.chosen[0], history=self.history)


def read_preferences(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> list[Preference]:
    """Read preferences from JSON lines in any of TRL's formats.

    The fields are ``prompt``, ``chosen`` and ``rejected``: texts, or lists of messages with ``role`` and ``content``.
    Without ``prompt``, it is what both answers begin with. ``chosen`` may also be a list of texts, several samples of
    the model, which ``d2o`` learns from.

    Args:
        path: JSON lines, plain or ``.gz``.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Returns:
        One preference for each record.

    Raises:
        UserError: If the file cannot be read, a record lacks a field, or its answers are empty or the same (with the
            line).
    """
    return list(stream_preferences(path, unicode_normalization=unicode_normalization))


def stream_preferences(path: StrPath, *, unicode_normalization: UnicodeNormalization = "nfc") -> Iterator[Preference]:
    """Read preferences as `read_preferences` does, without holding them in memory.

    Yields:
        One preference for each record.

    Raises:
        UserError: When the iterator reaches a record that is none.
    """
    for where, record in stream_json_records(path):
        yield _from_record(record, where=where, form=unicode_normalization)


def preferences_of(
    records: Iterable[Mapping[str, Any]], *, unicode_normalization: UnicodeNormalization = "nfc"
) -> list[Preference]:
    """Return the preferences of a data set in any of TRL's formats, such as one of `datasets`.

    Args:
        records: Rows with ``chosen``, ``rejected`` and perhaps ``prompt``; see `read_preferences`.
        unicode_normalization: ``"nfc"`` composes characters, ``"none"`` leaves texts as they are.

    Raises:
        UserError: If a row lacks a field, or its answers are empty or the same.

    Example:
        >>> preferences_of([{"chosen": "2 + 2 = 4", "rejected": "2 + 2 = 5"}])
        [Preference(source='2 + 2 =', chosen=(' 4',), rejected=' 5', history=())]
    """
    return [
        _from_record(dict(record), where=f"row {number}", form=unicode_normalization)
        for number, record in enumerate(records, start=1)
    ]


def _from_record(record: dict[str, Any], *, where: str, form: UnicodeNormalization) -> Preference:
    for field in _ANSWERS:
        if field not in record:
            raise UserError(f"{where}: no field `{field}`; the fields there are: {listed_fields(record)}")
    is_conversation = any(_holds_messages(record.get(field)) for field in ("prompt", *_ANSWERS))
    preference = (_from_messages if is_conversation else _from_texts)(record, where)
    example = normalize_example(preference.example, form)
    preference = replace(
        preference,
        source=example.source,
        history=example.history,
        chosen=tuple(normalize_text(text, form) for text in preference.chosen),
        rejected=normalize_text(preference.rejected, form),
    )
    _check(preference, where)
    return preference


def _holds_messages(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def _from_texts(record: dict[str, Any], where: str) -> Preference:
    chosen = record["chosen"]
    if isinstance(chosen, list):
        if not chosen:
            raise UserError(f"{where}: field `chosen` holds an empty list; it must hold an answer")
        listed = [text_in_field({"chosen": text}, "chosen", where=where) for text in chosen]
    else:
        listed = [text_in_field(record, "chosen", where=where)]
    rejected = text_in_field(record, "rejected", where=where)
    if record.get("prompt") is not None:
        return Preference(text_in_field(record, "prompt", where=where), tuple(listed), rejected)
    if len(listed) > 1:
        raise UserError(f"{where}: no field `prompt`, which several chosen answers need; add it")
    # A space before the answers is theirs: tokenizers join it to the word that follows.
    shared = listed[0][: _num_shared(listed[0], rejected)].removesuffix(" ")
    return Preference(shared, (listed[0][len(shared) :],), rejected[len(shared) :])


def _from_messages(record: dict[str, Any], where: str) -> Preference:
    chosen, rejected = (_messages(record, field, where) for field in _ANSWERS)
    if record.get("prompt") is not None:
        prompt = _messages(record, "prompt", where)
    else:
        num_shared = _num_shared(chosen, rejected)
        # The same answer in both is found below, not taken for a part of the prompt.
        num_shared = min(num_shared, len(chosen) - 1, len(rejected) - 1)
        prompt, chosen, rejected = chosen[:num_shared], chosen[num_shared:], rejected[num_shared:]
    for field, answer in zip(_ANSWERS, (chosen, rejected), strict=True):
        if len(answer) != 1 or answer[0].role != "assistant":
            roles = ", ".join(f"`{each.role}`" for each in answer) or "nothing"
            raise UserError(
                f"{where}: `{field}` must add one message of the role `assistant` to the prompt; it adds {roles}"
            )
    if not prompt or prompt[-1].role != "user":
        before = f"`{prompt[-1].role}`" if prompt else "nothing"
        raise UserError(f"{where}: the answers must follow a message of the role `user`; they follow {before}")
    return Preference(prompt[-1].content, (chosen[0].content,), rejected[0].content, tuple(prompt[:-1]))


def _num_shared(first: Sequence[object], second: Sequence[object]) -> int:
    """Return how long the common beginning of two sequences is."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _messages(record: dict[str, Any], field: str, where: str) -> list[Message]:
    value = record[field]
    if not isinstance(value, list):
        raise UserError(f"{where}: field `{field}` holds {kind_of(value)} where the others hold lists of messages")
    return messages_in(value, where=f"{where}, `{field}`")


def _check(preference: Preference, where: str) -> None:
    for field, answers in (("chosen", preference.chosen), ("rejected", (preference.rejected,))):
        if not all(answer.strip() for answer in answers):
            raise UserError(f"{where}: the answer `{field}` is empty; drop the line, or write it")
    if preference.chosen == (preference.rejected,):
        raise UserError(f"{where}: `chosen` and `rejected` are the same text, so nothing is preferred; drop the line")
