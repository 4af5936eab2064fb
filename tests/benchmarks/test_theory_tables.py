"""The script behind the numbers and pictures of docs/theory.md stays alive, on few targets and starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import theory_tables

from sharpseq.analyses.theory import TheoryStudy, outcome_counts, study_theory

MARKERS = ("theory-switches", "theory-random", "theory-lengths", "theory-training")


def quick_study() -> TheoryStudy:
    return study_theory(outcome_counts([("a b", 2, 2), ("b a", 1, 2)], name="quick"), k=[1.0], powers=[])


def test_tables_and_pictures_go_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory_tables, "study_theory", quick_study)
    document = tmp_path / "theory.md"
    document.write_text("".join(f"<!-- {marker} -->\n<!-- /{marker} -->\n" for marker in MARKERS))
    record = theory_tables.main(
        output=tmp_path / "numbers.json",
        document=document,
        pictures=tmp_path / "images",
        num_targets=2,
        num_updates=20,
        num_starts=2,
        num_points=3,
    )
    assert json.loads((tmp_path / "numbers.json").read_text())["tables"] == record["tables"]
    assert all(f"<!-- {marker} -->\n\n| " in document.read_text() for marker in MARKERS)
    assert (tmp_path / "images" / "optimum.png").read_bytes().startswith(b"\x89PNG")


def test_random_targets_are_different_outputs_with_shares() -> None:
    outcomes, p_data = theory_tables.random_target(size=3, num_modes=4, seed=1)
    assert len(set(outcomes)) == 4
    assert {len(outcome) for outcome in outcomes} == {3}
    assert float(p_data.sum()) == pytest.approx(1)
