"""A run ends with its final system beside its first one, and with nothing where there is no such pair."""

from __future__ import annotations

import pytest

from sharpseq.data import Example
from sharpseq.evaluation import Comparison, EvaluationResult, compare_systems, evaluate_outputs
from sharpseq.runs.conclusion import Conclusion, conclude

CORPUS = [Example(f"source {number}", "a", references=("a",), history=()) for number in range(40)]
SYSTEMS = {"first": ["b"] * 40, "copy": ["b"] * 40, "second": ["c"] * 20 + ["b"] * 20, "final": ["b"] * 10 + ["a"] * 30}


def measured(*names: str) -> tuple[list[EvaluationResult], list[Comparison]]:
    references = [example.references for example in CORPUS]
    systems = {name: SYSTEMS[name.partition(" ")[0]] for name in names}
    results = [
        evaluate_outputs(outputs, references, metrics=["exact_match"], system=name, data="test", keep_hypotheses=True)
        for name, outputs in systems.items()
    ]
    return results, compare_systems(systems, references, metrics=["exact_match"]) if len(systems) > 1 else []


def test_the_final_system_is_compared_with_the_first_one() -> None:
    conclusion = conclude("final", CORPUS, *measured("first", "second", "final"))
    assert conclusion.verdict.startswith("final is better than first: exact match 75.00 % against 0.00 %")
    assert conclusion.samples_note == "5 of the 30 examples that only one of them gets right (first 0, final 30)"
    assert [sample.source for sample in conclusion.samples] == [f"source {number}" for number in (13, 19, 25, 31, 37)]
    assert conclusion.samples[0].outputs == {"first": "b", "final": "a"}
    assert conclusion.samples[0].references == ("a",)


def test_where_neither_is_right_the_samples_are_those_that_differ() -> None:
    conclusion = conclude("second", CORPUS, *measured("first", "second"))
    assert conclusion.samples_note == "5 of the 20 examples on which they differ"
    assert [sample.source for sample in conclusion.samples] == [f"source {number}" for number in (2, 6, 10, 14, 18)]
    same = conclude("copy", CORPUS, *measured("first", "copy"))
    assert (same.samples, same.samples_note) == ([], "")
    assert same.verdict.startswith("copy cannot be told from first")


def test_of_several_decodings_the_first_of_the_final_stage_counts() -> None:
    conclusion = conclude("final", CORPUS, *measured("first best", "first beam", "final best", "final beam"))
    assert conclusion.verdict.startswith("final best is better than first best")


@pytest.mark.parametrize("names", [(), ("final",), ("final", "second"), ("first", "second")])
def test_there_is_no_conclusion_without_such_a_pair(names: tuple[str, ...]) -> None:
    assert conclude("final", CORPUS, *measured(*names)) == Conclusion()
