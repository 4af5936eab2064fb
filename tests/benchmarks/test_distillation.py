"""The comparison of students stays alive, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from distillation import calibration_error, main, objectives
from tiny_recipe import write_recipe

from sharpseq.runs import load_recipe, run_recipe

SHORT = ["stages.0.training.max_steps=2", "stages.1.training.max_steps=2", "evaluation.metrics=[bleu]"]


def test_students_of_a_tiny_teacher(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "autoregressive")
    run_recipe(load_recipe(path, overrides=SHORT), tmp_path / "teacher", say=lambda line: None)
    content = yaml.safe_load(path.read_text())
    content["tokenizer"] = {"kind": "pretrained", "name": "anything"}
    student = tmp_path / "student.yaml"
    student.write_text(yaml.safe_dump(content))
    document = tmp_path / "page.md"
    document.write_text("<!-- distillation -->\n<!-- /distillation -->\n")
    methods = ["maximum_likelihood", "kl", "reverse_kl_own_samples", "kl_top_8"]
    rows = main(
        tmp_path / "teacher",
        recipe=str(student),
        methods=methods,
        seeds=[1],
        runs=tmp_path / "runs",
        overrides=SHORT,
        output=tmp_path / "rows.json",
        document=document,
    )
    assert [row["method"] for row in rows] == methods
    assert all(0 <= row["agreement"] <= 1 and row["test"]["bleu"] >= 0 for row in rows)
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows
    assert "| `kl_top_8` |" in document.read_text()


def test_every_method_is_a_known_objective() -> None:
    names = {objective["name"] for objective in objectives().values()}
    assert names == {"maximum_likelihood", "distillation", "minillm"}


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy_in_each_bin() -> None:
    probabilities = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    is_right = torch.tensor([True, True, True, False, True, True])
    assert calibration_error(probabilities, is_right) == pytest.approx((4 * 0.15 + 2 * 0.5) / 6)
