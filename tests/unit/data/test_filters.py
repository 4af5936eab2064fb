"""Length filters: nothing is dropped without being reported."""

from __future__ import annotations

import math

import pytest

from sharpseq.data import EncodedExample, FilterReport, LengthFilter


def examples(*lengths: tuple[int, int]) -> list[EncodedExample]:
    return [EncodedExample(i, [5] * source, [6] * target) for i, (source, target) in enumerate(lengths)]


def test_no_bounds_keep_everything() -> None:
    corpus = examples((1, 0), (500, 1), (0, 0))
    assert LengthFilter().apply(corpus) == (corpus, FilterReport(3))
    assert str(FilterReport(3)) == "kept 3 of 3 examples"


def test_bounds_are_inclusive() -> None:
    bounds = LengthFilter(
        max_source_length=6, max_target_length=4, max_length_ratio=2, min_source_length=2, min_target_length=1
    )
    inside = [(6, 4), (2, 1), (4, 2), (2, 4)]
    outside = [(7, 4), (6, 5), (1, 1), (2, 0), (5, 2), (2, 5)]
    kept, report = bounds.apply(examples(*inside, *outside))
    assert [(len(example.input_ids), len(example.labels)) for example in kept] == inside
    assert report.counts == {
        "source over 6 tokens": 1,
        "target over 4 tokens": 2,
        "source under 2 tokens": 1,
        "target under 1 token": 1,
        "length ratio over 2": 1,
    }
    assert report.line_numbers["target over 4 tokens"] == (6, 10)
    assert (report.num_examples, report.num_kept, report.num_dropped) == (10, 4, 6)


def test_ratio_of_an_empty_side() -> None:
    kept, _ = LengthFilter(max_length_ratio=2).apply(examples((2, 0), (3, 0), (0, 2), (0, 3), (0, 0)))
    assert [example.index for example in kept] == [0, 2, 4]


def test_report_is_one_line_with_the_first_lines() -> None:
    _, report = LengthFilter(max_target_length=1).apply(examples((1, 1), *[(1, 2)] * 1200))
    text = "kept 1 of 1,201 examples; dropped 1,200: 1,200 target over 1 token (lines 2, 3, 4, …)"
    assert str(report) == text


def test_reports_of_parts_add_up() -> None:
    corpus = examples((1, 1), (9, 1), (1, 9), (9, 1), (9, 9), (9, 1), (1, 1))
    bounds = LengthFilter(max_source_length=5, max_target_length=5)
    _, whole = bounds.apply(corpus)
    total = FilterReport()
    for start in range(0, len(corpus), 3):
        total += bounds.apply(corpus[start : start + 3])[1]
    assert total == whole


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"max_source_length": 0}, "`max_source_length` must be at least 1; got 0"),
        ({"max_target_length": 2, "min_target_length": 3}, "`max_target_length` must be at least 3; got 2"),
        ({"min_source_length": -1}, "`min_source_length` must be at least 0; got -1"),
        ({"max_length_ratio": 0.5}, "`max_length_ratio` must be at least 1; got 0.5"),
        ({"max_length_ratio": math.nan}, "`max_length_ratio` must be at least 1; got nan"),
    ],
)
def test_impossible_bounds(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LengthFilter(**bounds)  # type: ignore[arg-type]


def test_source_and_target_together_have_a_limit_of_their_own() -> None:
    examples = [EncodedExample(0, [5] * 6, [5] * 4), EncodedExample(1, [5] * 6, [5] * 5), EncodedExample(2, [5], [5])]
    kept, report = LengthFilter(max_row_length=10).apply(examples)
    assert [example.index for example in kept] == [0, 2]
    assert report.counts == {"source and target over 10 tokens": 1}
    with pytest.raises(ValueError, match="`max_row_length` must be at least 1; got 0"):
        LengthFilter(max_row_length=0)
