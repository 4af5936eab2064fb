import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_recipe import write_recipe

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.evaluation import EvaluationResult
from sharpseq.models import MODELS
from sharpseq.runs.folder import RunFolder


@pytest.mark.parametrize("family", MODELS)
def test_a_recipe_runs_from_data_to_report(family: str, tmp_path: Path) -> None:
    said: list[str] = []
    recipe = load_recipe(
        write_recipe(tmp_path, family),
        overrides=["stages.0.training.max_steps=4", "stages.1.training.max_steps=4", "stages.0.evaluate=true"],
    )
    result = run_recipe(recipe, tmp_path / "run", say=said.append)

    assert {data: [r.system for r in results] for data, results in result.results.items()} == {
        "validation": ["first", "second"],
        "test": ["first", "second"],
    }
    assert [c.system for c in result.comparisons["test"]] == ["second", "second"]
    assert any("kept 120 of 120" in line for line in said)

    report = result.report.read_text(encoding="utf-8")
    assert "<svg" in report
    assert "convex_composition" in report
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert "library_name: sharpseq" in card
    assert "convex_composition" in card

    stage = load_file(tmp_path / "run" / "stages" / "second" / "model" / "model.safetensors")
    final = load_file(result.model / "model.safetensors")
    assert all(torch.equal(stage[name], final[name]) for name in stage)

    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"first", "second"}
    assert all({"weight_mean", "weight_min", "weight_max"} <= set(row) for row in rows if "loss" in row)

    saved = (tmp_path / "run" / "evaluation" / "second.default.test.json").read_text(encoding="utf-8")
    outputs = EvaluationResult.from_json(saved).hypotheses
    generator = SequenceGenerator.from_pretrained(tmp_path / "run")
    sources = [line.split("\t")[0] for line in (tmp_path / "validation.tsv").read_text().splitlines()]
    assert [output.text for output in generator.generate(sources)] == list(outputs)


def test_averaging_ends_a_stage_with_the_mean_of_its_last_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged: list[list[str]] = []
    original = run_recipe.__globals__["average_weights"]

    def watch(folders: list[Path]) -> dict[str, torch.Tensor]:
        averaged.append([folder.name for folder in folders])
        return original(folders)

    monkeypatch.setitem(run_recipe.__globals__, "average_weights", watch)
    recipe = load_recipe(write_recipe(tmp_path), overrides=["stages.0.average_checkpoints=3"])
    run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    assert averaged == [["checkpoint-4", "checkpoint-8", "checkpoint-12"]]


def test_an_evaluation_of_other_data_is_made_again(tmp_path: Path) -> None:
    recipe = load_recipe(
        write_recipe(tmp_path), overrides=["stages.0.training.max_steps=1", "stages.1.training.max_steps=1"]
    )
    run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    file = tmp_path / "run" / "evaluation" / "second.default.test.json"
    (tmp_path / "validation.tsv").write_text("abc\tcba\n", encoding="utf-8")
    said: list[str] = []
    run_recipe(recipe, tmp_path / "run", say=said.append)
    assert EvaluationResult.from_json(file.read_text(encoding="utf-8")).num_sentences == 1
    assert any("second.default.test.json was made from other data, settings or weights" in line for line in said)
    said.clear()
    run_recipe(recipe, tmp_path / "run", say=said.append)
    assert not any("made from other" in line for line in said)


def test_a_metric_that_never_moves_is_reported(tmp_path: Path) -> None:
    still = [f"stages.{stage}.training.{key}" for stage in (0, 1) for key in ("max_steps=4", "eval_steps=2")]
    recipe = load_recipe(
        write_recipe(tmp_path), overrides=[*still, "stages.0.training.learning_rate=1e-9", "validation.metric=bleu"]
    )
    said: list[str] = []
    run_recipe(recipe, tmp_path / "run", say=said.append)
    assert any("bleu was 0 at every validation" in line and "`chrf` is the better choice" in line for line in said)


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path), overrides=["stages.0.training.max_steps=1"])
    folder = RunFolder(tmp_path / "run")
    folder.claim(recipe)
    with folder.held(), pytest.raises(UserError, match="is being worked on by another"):
        run_recipe(recipe, folder.path, say=lambda line: None)
    assert not folder.tokenizer.exists()
    with folder.held():
        pass
