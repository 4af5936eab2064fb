"""What moved between two versions of a text, against brute force and against the examples of the paper."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from sharpseq.analyses.latent.moved_phrases import (
    CommonPhrase,
    Segment,
    common_phrases,
    mark_moved_phrases,
    moved_phrases,
)


def texts(seed: int) -> tuple[list[str], list[str]]:
    generator = random.Random(seed)
    return tuple(generator.choices("abcd", k=generator.randint(0, 9)) for _ in "ab")  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(60))
def test_common_phrases_are_common_disjoint_and_leave_nothing_common(seed: int) -> None:
    before, after = texts(seed)
    phrases = common_phrases(before, after)
    for phrase in phrases:
        run = slice(phrase.before, phrase.before + phrase.num_words)
        assert before[run] == after[phrase.after : phrase.after + phrase.num_words]
    left, right = list(before), list(after)
    for phrase in phrases:
        for offset in range(phrase.num_words):
            assert left[phrase.before + offset] is not None and right[phrase.after + offset] is not None
            left[phrase.before + offset] = right[phrase.after + offset] = None  # type: ignore[call-overload]
    assert not {word for word in left if word} & {word for word in right if word}
    longest = max((phrase.num_words for phrase in phrases), default=0)
    runs = {tuple(before[i:j]) for i in range(len(before)) for j in range(i + 1, len(before) + 1)} & {
        tuple(after[i:j]) for i in range(len(after)) for j in range(i + 1, len(after) + 1)
    }
    assert longest == max(map(len, runs), default=0)


@pytest.mark.parametrize("seed", range(60))
def test_what_stays_is_the_heaviest_chain_in_order(seed: int) -> None:
    phrases = common_phrases(*texts(seed))
    staying = [phrase for phrase in phrases if phrase not in moved_phrases(phrases)]
    assert [phrase.after for phrase in staying] == sorted(phrase.after for phrase in staying)
    chains = (
        chain
        for size in range(len(phrases) + 1)
        for chain in combinations(phrases, size)
        if [phrase.after for phrase in chain] == sorted(phrase.after for phrase in chain)
    )
    heaviest = max(sum(phrase.num_words for phrase in chain) for chain in chains)
    assert sum(phrase.num_words for phrase in staying) == heaviest


def test_a_text_and_itself_have_one_phrase_and_nothing_moves() -> None:
    words = ["a", "b", "a", "b", "a"]
    assert common_phrases(words, words) == [CommonPhrase(0, 0, 5)]
    assert mark_moved_phrases("A b, a b!", "A b, a b!") == ([Segment("A b, a b!", "same", 0)],) * 2


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (
            "Es gibt nicht viele Ärzte im westafrikanischen Land, nur eine für 5.000 Menschen.",
            "Im westafrikanischen Land gibt es nicht viele Ärzte, nur eine für 5.000 Menschen.",
            ["im westafrikanischen Land"],
        ),
        (
            "dass sie die ausgegebenen 6,9 Milliarden Dollar und 1,2 Milliarden Euro ausmachen",
            "dass sie 1,2 Milliarden Euro und die ausgegebenen 6,9 Milliarden Dollar ausmachen",
            ["1,2 Milliarden Euro"],
        ),
    ],
)
def test_exchanged_phrases_are_found_whatever_their_capitals(before: str, after: str, moved: list[str]) -> None:
    marked = mark_moved_phrases(before, after)
    assert [segment.text for segment in marked[0] if segment.kind == "moved"] == moved
    assert [segment.text.lower() for segment in marked[1] if segment.kind == "moved"] == [
        phrase.lower() for phrase in moved
    ]


@pytest.mark.parametrize("seed", range(40))
def test_segments_joined_are_the_text_and_phrases_have_partners(seed: int) -> None:
    generator = random.Random(seed)
    pieces = ["der Hund", " ", "  ", "rennt", ",", ".", "ein-mal", "“", "A", "a"]
    before, after = ("".join(generator.choices(pieces, k=generator.randint(0, 14))) for _ in "ab")
    marked = mark_moved_phrases(before, after, min_words=1)
    assert tuple("".join(segment.text for segment in side) for side in marked) == (before, after)
    numbers = [{s.phrase: s.text.casefold().split() for s in side if s.kind == "moved"} for side in marked]
    assert numbers[0].keys() == numbers[1].keys() == set(range(1, len(numbers[0]) + 1))
    assert all(segment.phrase == 0 for side in marked for segment in side if segment.kind != "moved")


def test_short_phrases_that_move_count_as_changed() -> None:
    before, _ = mark_moved_phrases("ja, one two three", "one two three, ja")
    assert [segment for segment in before if segment.kind != "same"] == [Segment("ja,", "changed", 0)]
    assert "moved" in {segment.kind for segment in mark_moved_phrases("ja one two", "one two ja", min_words=1)[0]}
    with pytest.raises(ValueError, match="`min_words` must be at least 1; got 0"):
        mark_moved_phrases("a", "b", min_words=0)
