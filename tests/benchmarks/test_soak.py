"""A short soak: a handful of interruptions at random moments, and the same ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import TINY, main


@pytest.mark.slow
def test_interrupted_jobs_leave_what_they_would_have_left(tmp_path: Path) -> None:
    result = main(TINY, folder=tmp_path, say=lambda line: None)
    assert [row["failures"] for row in result["rows"]] == [[], [], []]
    assert [row["interruptions"] for row in result["rows"]] == [3, 1, 1]
