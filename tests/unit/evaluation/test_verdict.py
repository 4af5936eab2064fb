"""The sentence about two systems says which is better, and what chance would do."""

from __future__ import annotations

import pytest

from sharpseq.evaluation import compare_systems, evaluate_outputs, verdict


def said(outputs: list[str], *, metric: str, reference: str = "a") -> str:
    """Return the verdict on some outputs against a baseline that is right half of the time."""
    references = [[reference]] * len(outputs)
    systems = {"old": ["a", "b"] * (len(outputs) // 2), "new": outputs}
    comparisons = compare_systems(systems, references, metrics=[metric], data="test")
    return verdict(evaluate_outputs(outputs, references, metrics=[metric]), comparisons)


@pytest.mark.parametrize(
    ("outputs", "metric", "begins"),
    [
        (
            ["a"] * 50,
            "exact_match",
            "new is better than old: exact match 100.00 % against 50.00 % on the 50 examples of",
        ),
        (["b"] * 50, "exact_match", "new is worse than old: exact match 0.00 % against 50.00 %"),
        (["a"] * 50, "word_error_rate", "new is better than old: word error rate 0.00 % against 50.00 %"),
        (["b"] * 50, "word_error_rate", "new is worse than old"),
        (["a a"] * 50, "length_ratio", "new differs from old: length ratio 2.00 against 1.00"),
        (["a"] * 26 + ["b"] * 24, "exact_match", "new cannot be told from old: exact match 52.00 % against 50.00 %"),
    ],
)
def test_it_says_which_is_better_whichever_way_the_metric_points(outputs: list[str], metric: str, begins: str) -> None:
    assert said(outputs, metric=metric).startswith(begins)


def test_it_says_what_chance_would_do() -> None:
    assert said(["a"] * 50, metric="exact_match").endswith("such a difference in 0.1 % of cases (p < 0.001).")
    assert said(["a", "b"] * 25, metric="exact_match").endswith("in 100 % of cases (p = 1.000).")


def test_metrics_that_say_something_else_are_named() -> None:
    references, metrics = [["a b c d"]] * 100, ["word_error_rate", "phoneme_error_rate", "exact_match"]
    systems = {"old": ["a b c x"] * 100, "new": ["a b c d"] * 20 + ["x"] * 80}
    comparisons = compare_systems(systems, references, metrics=metrics)
    result = evaluate_outputs(systems["new"], references, metrics=metrics)
    end = "(p < 0.001); its phoneme error rate, 80.00 % against 25.00 %, is worse (p < 0.001)."
    assert verdict(result, comparisons).endswith(end)
    assert verdict(result, comparisons[::-1]).endswith(end)
    with pytest.raises(ValueError, match="at least one comparison"):
        verdict(result, [])


def test_there_is_no_verdict_on_what_is_undefined() -> None:
    assert said(["a"] * 4, metric="phoneme_error_rate", reference="") == ""
