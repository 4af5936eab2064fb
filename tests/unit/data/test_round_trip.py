"""Targets through a tokenizer and back."""

from __future__ import annotations

import pytest

from sharpseq.data import train_tokenizer, try_round_trip

PHONEMES = ["AH0 B", "EH1 T AH0", "B", "", "T B", " \u200b"]


def test_symbols_that_split_what_belongs_together_are_counted() -> None:
    found = try_round_trip(train_tokenizer(PHONEMES, kind="characters", symbols="[A-Z]+"), PHONEMES)
    # Blank targets say nothing.
    assert (found.num_targets, found.num_changed, found.fails_mostly) == (4, 2, False)
    assert found.examples == (("AH0 B", "AH 0 B"), ("EH1 T AH0", "EH 1 T AH 0"))
    assert str(found) == (
        "2 of 4 targets are not what they were after encoding and decoding: "
        "'AH0 B' becomes 'AH 0 B', 'EH1 T AH0' becomes 'EH 1 T AH 0'"
    )
    assert try_round_trip(train_tokenizer(PHONEMES, kind="characters", symbols="[A-Z]+"), PHONEMES[:2]).fails_mostly
    found = try_round_trip(train_tokenizer(PHONEMES, kind="characters", symbols="[A-Z]+[0-2]?"), PHONEMES)
    assert (found.num_targets, found.num_changed, found.examples) == (4, 0, ())


@pytest.mark.parametrize("kind", ["bpe", "unigram", "characters"])
def test_ordinary_text_comes_back(kind: str) -> None:
    texts = ["a  dog ", "scho\u0308n", "a </s> b", "tab\there", "one\nline", "\u2028", "\0", "x\u200by"] * 300
    found = try_round_trip(train_tokenizer(texts, kind=kind, vocab_size=60), texts)  # type: ignore[arg-type]
    assert (found.num_changed, found.examples) == (0, ())
    assert found.num_targets == 6 * 300


def test_what_a_small_vocabulary_leaves_out_is_counted() -> None:
    texts = ["aab", "aac", "aad"] * 1000
    found = try_round_trip(train_tokenizer(texts, kind="characters", vocab_size=7), texts, num_examples=1)
    assert found.num_changed == 2000
    assert found.examples == (("aac", "aa"),)
    assert found.fails_mostly


def test_long_targets_are_shown_in_part() -> None:
    tokenizer = train_tokenizer(["A0"], kind="characters", symbols="[A-Z]+")
    assert f"'{'A0' * 30}…' becomes" in str(try_round_trip(tokenizer, ["A0" * 1000]))
