"""Edit distance, word and phoneme error rate, exact match."""

from __future__ import annotations

import random
import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpseq.evaluation import measure
from sharpseq.evaluation.error_rates import nearest_reference

symbols = st.lists(st.sampled_from(["a", "b", "AH", "AH1"]), max_size=6)


def distance_by_definition(first: list[str], second: list[str]) -> int:
    """The recursion of Wagner and Fischer, from the front and without a table."""

    @cache
    def between(i: int, j: int) -> int:
        if i == len(first) or j == len(second):
            return len(first) - i + len(second) - j
        substitution = between(i + 1, j + 1) + (first[i] != second[j])
        return min(substitution, between(i + 1, j) + 1, between(i, j + 1) + 1)

    return between(0, 0)


@given(symbols, symbols)
def test_edits_equal_their_definition(first: list[str], second: list[str]) -> None:
    assert nearest_reference(" ".join(first), [" ".join(second)]) == (
        distance_by_definition(first, second),
        len(second),
    )


def test_phoneme_error_rate_by_hand() -> None:
    # Edits 1 (substitution) of 3, 1 (deletion) of 3, 2 (insertions) of 2, 0 of 1: 4 of 9.
    hypotheses = ["K AH T", "D AO", "Z UW Z UW", "AH"]
    references = [["K AE T"], ["D AO G"], ["Z UW"], ["AH"]]
    assert measure("phoneme_error_rate", hypotheses, references).result.score == pytest.approx(100 * 4 / 9)


def test_the_nearest_reference_counts_with_its_own_length() -> None:
    # Distances 2 and 1: the second, of length 3, whatever the order.
    for references in (["A B C D E", "A B X"], ["A B X", "A B C D E"]):
        assert nearest_reference("A B C", references) == (1, 3)


def test_of_references_equally_near_the_longest_counts() -> None:
    for references in (["A B", "A B C D"], ["A B C D", "A B"]):
        assert nearest_reference("A B C", references) == (1, 4)


def test_errors_can_outnumber_the_reference() -> None:
    assert measure("phoneme_error_rate", ["A B C D"], [["X"]]).result.score == 400


def test_a_corpus_of_empty_references_has_no_phoneme_error_rate() -> None:
    assert str(measure("phoneme_error_rate", ["A"], [[""]]).result.score) == "nan"


def test_word_error_rate_accepts_any_reference() -> None:
    hypotheses = ["T AH M EY T OW", "T AH M AA T OW", "T AH M OW", ""]
    references = [["T AH M EY T OW", "T AH M AA T OW"]] * 4
    assert measure("word_error_rate", hypotheses, references).result.score == 50
    assert measure("exact_match", hypotheses, references).result.score == 50


def test_whitespace_is_no_error() -> None:
    assert measure("word_error_rate", [" K  AE T\n"], [["K AE T"]]).result.score == 0


def test_a_dictionary_takes_less_than_two_seconds() -> None:
    generator = random.Random(0)
    phonemes = [f"P{index}" for index in range(39)]

    def pronunciation() -> str:
        return " ".join(generator.choices(phonemes, k=generator.randint(3, 11)))

    hypotheses = [pronunciation() for _ in range(12_000)]
    references = [[pronunciation() for _ in range(1 + index % 2)] for index in range(12_000)]
    start = time.process_time()
    measure("phoneme_error_rate", hypotheses, references)
    assert time.process_time() - start < 2
