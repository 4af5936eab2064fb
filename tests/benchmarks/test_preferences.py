"""The benchmark of preferences runs at a tiny size, and all systems compute the same."""

from __future__ import annotations

import pytest
from bench_preferences import SYSTEMS, Measurement, measure, summarize, table

pytest.importorskip("trl")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_all_systems_compute_the_same() -> None:
    found = {system: [measure(system, pairs=2, length=8, vocabulary=50, width=16)] for system in SYSTEMS}
    for runs in found.values():
        assert runs[0].checksum == pytest.approx(found["naive"][0].checksum, rel=1e-4)


def test_a_table_has_a_row_for_each_system() -> None:
    found = {system: [Measurement(1.0, 10.0 * number, 3.0)] for number, system in enumerate(SYSTEMS, start=1)}
    assert "| sharpseq | 30 | 1.50 | 1.0 |" in table(summarize(found))
