"""Repetition rate and length ratio."""

from __future__ import annotations

import math

import pytest

from sharpseq.evaluation import measure
from sharpseq.evaluation.length_ratio import output_and_reference_length
from sharpseq.evaluation.ratio import RatioMetric
from sharpseq.evaluation.repetition import repeated_tokens


@pytest.mark.parametrize(
    ("output", "repeated", "total"),
    [("a a a", 2, 3), ("a b a b", 0, 4), ("", 0, 0), ("a", 0, 1), ("Dog dog  dog", 1, 3)],
)
def test_counts_tokens_that_equal_their_predecessor(output: str, repeated: int, total: int) -> None:
    assert repeated_tokens(output) == (repeated, total)


def test_repetition_is_summed_over_the_corpus_not_averaged_over_sentences() -> None:
    # 1 of 2 and 0 of 6 tokens.
    assert measure("repetition_rate", ["a a", "a b c d e f"], [["x"], ["x"]]).result.score == 12.5


def test_sentences_are_not_joined() -> None:
    assert measure("repetition_rate", ["a", "a"], [["x"], ["x"]]).result.score == 0


def test_length_is_compared_with_the_reference_nearest_in_length() -> None:
    assert output_and_reference_length("a b c d", ["a", "a b c d e", "a b c d e f"]) == (4, 5)
    assert output_and_reference_length("a b", ["a b c", "a"]) == (2, 1)


def test_length_ratio_is_summed_over_the_corpus() -> None:
    assert measure("length_ratio", ["a", "a b c d e"], [["a b"], ["a b c d e f"]]).result.score == 6 / 8


def test_length_ratio_without_reference_tokens_is_undefined() -> None:
    assert math.isnan(measure("length_ratio", ["a"], [[""]]).result.score)


def test_the_score_of_an_empty_sum_is_in_the_unit_of_the_metric() -> None:
    metric = RatioMetric(lambda hypothesis, references: (len(hypothesis), 0), scale=100, empty=50)
    assert float(metric.aggregate(metric.statistics(["a"], [["b"]]).sum(axis=0))) == 50
