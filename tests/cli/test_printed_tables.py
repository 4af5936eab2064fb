"""A table of results is readable on a narrow terminal, and whole in a pipe."""

from __future__ import annotations

import re

import pytest

from sharpseq.cli.printed_tables import print_results, print_samples
from sharpseq.evaluation import OutputSample, evaluate_outputs

METRICS = ["bleu", "chrf", "ter", "exact_match", "word_error_rate"]


@pytest.mark.parametrize(
    ("num_systems", "width"), [(1, 60), (2, 80), (3, 80), (4, 100), (4, 300), (1, None), (3, None), (9, None)]
)
def test_no_number_is_cut(
    num_systems: int, width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        evaluate_outputs(["a b c d"] * 3, [["a b c d e"]] * 3, metrics=METRICS, system=f"system {number}")
        for number in range(num_systems)
    ]
    monkeypatch.delenv("COLUMNS", raising=False)
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    print_results(results, title="data")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "…" not in shown
    assert shown.count("[100.00, 100.00]") == num_systems
    assert "word error rate % ↓" in shown
    if width is not None:
        assert max(map(len, shown.splitlines())) <= width


def test_samples_show_both_outputs_and_mark_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [OutputSample("read [1]", ["R IY D", "R EH D"], {"first": "R AE D", "second": "R EH D"})]
    print_samples([*samples, OutputSample("a", ["b"], {"first": "", "second": "c"})])
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in shown if row] == [
        ["read [1]", "R IY D / R EH D", "R AE D", "R EH D ✓"],
        ["a", "b", "(empty)", "c"],
    ]
