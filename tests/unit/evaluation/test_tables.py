"""The table for a terminal and the one in markdown say the same."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.console import Console

from sharpseq.evaluation import (
    Comparison,
    EvaluationResult,
    SpeedResult,
    compare_systems,
    evaluate_outputs,
    markdown_table,
    results_table,
    summary_table,
)

REFERENCES = [["a b"], ["c d"], ["e f"], ["g h"]]
SYSTEMS = {"maximum [likelihood]": ["a x", "c d", "e f", "y"], "convex | k=3": ["a b", "c d", "e f", "g g"]}


def results() -> list[EvaluationResult]:
    return [
        evaluate_outputs(
            outputs,
            REFERENCES,
            metrics=["exact_match"],
            system=name,
            log_prob=[-1.0] * 4,
            num_tokens=[2] * 4,
            num_passes=1,
            speed=[SpeedResult(1, 4, 3, 12.34, 12.0, 13.0, 81.0, None, 1)],
        )
        for name, outputs in SYSTEMS.items()
    ]


def comparisons() -> list[Comparison]:
    return compare_systems(SYSTEMS, REFERENCES, metrics=["exact_match"])


def cells(table: str) -> list[list[str]]:
    lines = [line.replace("\\|", "¦").strip("| ").split(" | ") for line in table.splitlines()]
    return [[cell.replace("¦", "|") for cell in line] for line in lines]


def test_markdown_has_one_row_a_system_with_intervals_and_p_values() -> None:
    head, rule, first, second = cells(markdown_table(results(), comparisons()))
    assert head == [
        "system",
        "exact match % ↑",
        "output NLL / sentence ↓",
        "output NLL / token ↓",
        "repetition rate % ↓",
        "length ratio",
        "passes ↓",
        "ms / sentence ↓ (batch 1)",
    ]
    assert rule == [":---"] + ["---:"] * 7
    interval, bootstrap = results()[0].intervals["exact_match"], comparisons()[0].bootstrap
    assert first[:2] == ["maximum [likelihood]", f"50.00 [{interval.low:.2f}, {interval.high:.2f}]"]
    assert second[0] == "convex | k=3"
    assert second[1].startswith("75.00 [") and second[1].endswith(f"] p = {bootstrap.p_value:.3f}")
    assert second[2:] == ["1.00", "0.500", "12.50", "1.000", "1", "12.3"]


def test_the_terminal_shows_names_with_brackets_as_they_are() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table(results(), comparisons(), title="Test"))
    shown = capture.get()
    assert "maximum [likelihood]" in shown
    assert "convex | k=3" in shown
    assert "p = " in shown
    assert "75.00" in shown


def test_the_summary_of_two_metrics_fits_a_terminal_of_100_columns() -> None:
    systems = {"maximum_likelihood": ["A"] * 100, "convex_composition": ["A"] * 90 + ["B"] * 10}
    metrics = ["word_error_rate", "phoneme_error_rate"]
    measured = [
        evaluate_outputs(
            outputs,
            [["B"]] * 100,
            metrics=metrics,
            system=name,
            log_prob=[-1.0] * 100,
            num_tokens=[2] * 100,
            speed=[SpeedResult(size, 4, 3, 10 / size, 1.0, 1.0, 1.0, None, 1) for size in (1, 32)],
        )
        for name, outputs in systems.items()
    ]
    console = Console(width=300)
    with console.capture() as capture:
        console.print(summary_table(measured, compare_systems(systems, [["B"]] * 100, metrics=metrics), title="Test"))
    shown = capture.get().splitlines()
    assert max(map(len, shown)) <= 100
    heads, first, second = ([cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in (shown[2], *shown[4:6]))
    assert heads == ["system", "word error rate % ↓", "phoneme error rate % ↓", "NLL / token ↓", "ms ↓"]
    assert first == ["maximum_likelihood", "100.00", "100.00", "0.500", "10"]
    assert second == ["convex_composition", "90.00 (p < 0.001)", "90.00 (p < 0.001)", "0.500", "10"]


def test_the_first_row_has_no_p_value_and_other_baselines_are_passed_over() -> None:
    backwards = compare_systems(dict(reversed(SYSTEMS.items())), REFERENCES, metrics=["exact_match"])
    assert "p =" not in markdown_table(results(), backwards)
    assert markdown_table(results(), [*backwards, *comparisons()]) == markdown_table(results(), comparisons())


def test_what_no_result_has_gets_no_column_and_what_one_lacks_a_dash() -> None:
    first, second = results()
    bare = replace(second, confidence=None, speed=(), num_passes=None, metrics={}, intervals={})
    head, _, _, row = cells(markdown_table([first, bare]))
    assert dict(zip(head, row, strict=True))["output NLL / token ↓"] == "–"
    assert dict(zip(head, row, strict=True))["exact match % ↑"] == "–"
    assert len(cells(markdown_table([bare]))[0]) == 3


def test_a_diagnostic_that_is_a_metric_is_shown_once() -> None:
    result = evaluate_outputs(["a"], [["a"]], metrics=["length_ratio", "repetition_rate"])
    head = cells(markdown_table([result]))[0]
    assert sorted(head) == ["length ratio", "repetition rate % ↓", "system"]


def test_several_data_sets_get_a_column_and_their_own_baselines() -> None:
    other = [replace(result, data="other") for result in results()]
    elsewhere = [replace(comparison, data="other") for comparison in comparisons()]
    table = cells(markdown_table([*results(), *other], elsewhere))
    assert [row[1] for row in table[2:]] == ["data", "data", "other", "other"]
    assert ["p =" in row[2] for row in table[2:]] == [False, False, False, True]


def test_small_p_values_are_not_shown_as_zero() -> None:
    [comparison] = comparisons()
    tiny = replace(comparison, bootstrap=replace(comparison.bootstrap, p_value=1 / 10001))
    undefined = replace(comparison, bootstrap=replace(comparison.bootstrap, p_value=float("nan")))
    assert "p < 0.001" in markdown_table(results(), [tiny])
    assert "p = –" in markdown_table(results(), [undefined])


def test_a_slow_system_has_its_milliseconds_in_full() -> None:
    [first, _] = results()
    slow = replace(first, speed=tuple(replace(entry, milliseconds_per_sentence=1234.5) for entry in first.speed))
    assert cells(markdown_table([slow]))[2][-1] == "1,234"


def test_rejects_no_results() -> None:
    with pytest.raises(ValueError, match="at least one result"):
        markdown_table([])
    with pytest.raises(ValueError, match="at least one result"):
        results_table([])
