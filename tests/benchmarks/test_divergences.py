"""The benchmark of divergences stays alive, at a tiny size and in one process."""

from __future__ import annotations

from itertools import product

import pytest
from bench_divergences import DIVERGENCES, DTYPES, HEADS, SYSTEMS, measure, summarize, table
from own_process import Measurement


def test_all_systems_compute_the_same_gradient() -> None:
    systems = [system for system in SYSTEMS if system != "trl"]  # whose import takes seconds; its tests compare it
    found = {
        (dtype, head, divergence, system): [
            measure(system, divergence, dtype, head, tokens=16, vocabulary=2000, width=8)
        ]
        for dtype, head in product(DTYPES, HEADS)
        for divergence in DIVERGENCES
        for system in systems
    }
    for (dtype, head, divergence, _), (run,) in found.items():
        (naive,) = found[dtype, head, divergence, "naive"]
        assert run.checksum == pytest.approx(naive.checksum, rel=1e-2 if dtype == "bfloat16" else 1e-4)
        assert run.seconds >= 0


def test_ratios_are_to_the_naive_way_of_the_same_case() -> None:
    case = ("float32", "frozen", "kl")
    runs = {(*case, "naive"): [Measurement(10.0, 800.0, 1.0)], (*case, "sharpseq"): [Measurement(8.0, 100.0, 1.0)]}
    rows = summarize(runs)
    assert [(row["time_ratio"], row["memory_ratio"]) for row in rows] == [(1.0, 1.0), (0.8, 0.125)]
    assert table(rows).splitlines()[-1] == "| float32 | frozen | kl | sharpseq | 0.80 | 0.125 | 8.0 | 100 |"
