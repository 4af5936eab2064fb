"""Sentences are found, and nothing between them is lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpseq.serving.sentences import split_text


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "go." She went.', ['He said "go."', "She went."]),
        ("Dr. Li and J. S. Bach came on the 3. May, e.g. now. So!", None),
        ("It cost 3.50 in 1999. See www.example.org now.", ["It cost 3.50 in 1999.", "See www.example.org now."]),
        ("Wait... what? no. yes.", ["Wait... what? no. yes."]),
        ("你好。再见\uff01好", ["你好。", "再见\uff01", "好"]),
        ("a\nb\r\n\r\nc", ["a", "b", "c"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str] | None) -> None:
    expected = ["Dr. Li and J. S. Bach came on the 3. May, e.g. now.", "So!"] if sentences is None else sentences
    assert list(split_text(text).sentences) == expected


@given(st.text(alphabet="aB.!?。 \n\r\t\"'\u2028\x1c1"))
def test_nothing_is_lost(text: str) -> None:
    layout = split_text(text)
    assert layout.filled(layout.sentences) == text
    assert all(sentence == sentence.strip() and len(sentence.splitlines()) == 1 for sentence in layout.sentences)


@pytest.mark.parametrize("text", ["." * 300_000 + "x", "a. " * 100_000, '."' * 150_000, "a" * 300_000, "no. " * 75_000])
def test_hostile_texts_take_linear_time(text: str) -> None:
    began = time.perf_counter()
    split_text(text)
    assert time.perf_counter() - began < 5
