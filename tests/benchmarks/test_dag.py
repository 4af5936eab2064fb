"""The benchmark of graphs stays alive, at a tiny size."""

from __future__ import annotations

import torch
from bench_dag import measure, systems, table

SIZES = {"batch": 2, "target": 3, "width": 8, "vocabulary": 11}


def test_step_by_step_is_the_same_sum() -> None:
    made = systems(vertices=8, **SIZES)
    torch.testing.assert_close(made["dag"](), made["autograd"]())


def test_rows_have_shares_of_the_head() -> None:
    rows = measure(source=4, factor=2, rounds=1, **SIZES)
    assert [row["system"] for row in rows] == ["head", "links", "dag", "autograd", "best_path", "ctc"]
    assert rows[0]["share_of_head"] == 1
    kept = {row["system"]: row["kept_mebibytes"] for row in rows}
    assert 0 < kept["dag"] < kept["autograd"]
    assert table(rows).splitlines()[2].startswith("| 8 | head | ")
