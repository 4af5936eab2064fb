"""Characters of sources that a tokenizer does not know."""

from __future__ import annotations

from typing import Any

import pytest

from sharpseq.data import UnknownCharacters, encode_sources, prepare_sources, train_tokenizer


def counted(tokenizer: Any, *windows: list[str]) -> UnknownCharacters:
    unknown = UnknownCharacters(tokenizer)
    for sources in windows:
        unknown.add(prepare_sources(tokenizer, sources), encode_sources(tokenizer, sources))
    return unknown


@pytest.mark.parametrize("kind", ["bpe", "unigram", "characters"])
def test_unknown_characters_are_counted_and_shown(kind: Any) -> None:
    tokenizer = train_tokenizer(["a dog and a cat", "two dogs"], kind=kind, vocab_size=40)
    unknown = counted(tokenizer, ["a dög", "a cat"], ["zwei ☃", "a\u0301\u200b", "n\u0308", "ö ö"])
    assert unknown.counts == {"ö": 3, "z": 1, "e": 1, "i": 1, "☃": 1, "á": 1, "\u200b": 1, "\u0308": 1}
    assert unknown.num_sources == 5
    assert str(unknown) == (
        "10 characters in 5 sources are unknown to the tokenizer and were read as <unk>: "
        "'ö' (3), 'z' (1), 'e' (1), 'i' (1), '☃' (1), …"
    )
    assert str(counted(tokenizer, ["n\u0308"])).endswith(
        "1 character in 1 source is unknown to the tokenizer and was read as <unk>: U+0308 (1)"
    )
    assert not counted(tokenizer, ["a dog", ""])


def test_unknown_symbols_of_known_characters_are_counted_as_tokens() -> None:
    tokenizer = train_tokenizer(["AH B", "A H B"], kind="characters", symbols="[A-Z]+")
    unknown = counted(tokenizer, ["HA HA B"])
    assert unknown.counts == {"<unk>": 2}


def test_tokenizers_without_an_unknown_token_know_everything() -> None:
    tokenizer = train_tokenizer(["a"], kind="characters")
    tokenizer.unk_token = tokenizer.eos_token  # as GPT-2's
    assert not counted(tokenizer, ["a", "b"])
