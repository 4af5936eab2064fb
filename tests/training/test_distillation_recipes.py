"""Distillation from the command line: a teacher, its store, and students in recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tiny_recipe import write_recipe
from typer.testing import CliRunner

from sharpseq.cli import app
from sharpseq.errors import UserError
from sharpseq.runs import load_recipe, run_recipe

DISTILLATION = {"name": "distillation", "divergence": {"name": "adaptive_kl"}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with its recipe beside it."""
    folder = tmp_path_factory.mktemp("teacher")
    recipe = write_recipe(folder, "autoregressive")
    overrides = ["stages.0.training.max_steps=4", "stages.1.training.max_steps=2", "evaluation.metrics=[exact_match]"]
    run_recipe(load_recipe(recipe, overrides=overrides), folder / "run", say=lambda line: None)
    return folder


def student(teacher: Path, folder: Path, section: dict[str, str], **changes: object) -> Path:
    """Write a student's recipe and return its path."""
    content = yaml.safe_load((teacher / "tiny.yaml").read_text())
    content["tokenizer"] = {"kind": "pretrained", "name": str(teacher / "run" / "tokenizer")}
    content["model"]["d_model"] = 8
    content["stages"] = [
        {
            "name": "student",
            "objective": DISTILLATION,
            "teacher": section,
            "training": {**content["stages"][0]["training"], "max_steps": 4, "eval_steps": 2, "bf16": False},
        }
    ]
    content["evaluation"]["metrics"] = ["exact_match"]
    content.update(changes)
    path = folder / "student.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def invoke(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_student_learns_from_a_store_as_from_the_teacher(teacher: Path, tmp_path: Path) -> None:
    recipe = teacher / "tiny.yaml"
    store = tmp_path / "store"
    command = ["teach", teacher / "run", f"{recipe}:train", f"{recipe}:validation", "-o", store, "--k", "8"]
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "130 examples in" in result.output
    seen = {}
    for name, section in (("model", {"model": str(teacher / "run")}), ("store", {"store": str(store)})):
        folder = tmp_path / f"student of a {name}"
        folder.mkdir()
        run_recipe(load_recipe(student(teacher, folder, section)), folder / "run", say=lambda line: None)
        rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        seen[name] = [row["eval_divergence"] for row in rows if "eval_divergence" in row]
    assert len(seen["store"]) == 2
    assert seen["store"] == pytest.approx(seen["model"], rel=0.2)
    assert "130 of them from before" in invoke(*command).output


def test_a_store_without_the_students_data_is_refused_before_training(teacher: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert invoke("teach", teacher / "run", f"{teacher / 'tiny.yaml'}:train", "-o", store, "--k", "4").exit_code == 0
    recipe = load_recipe(student(teacher, tmp_path, {"store": str(store)}))
    with pytest.raises(UserError, match=r"no outputs for 10 of 10 validation examples.*validation included"):
        run_recipe(recipe, tmp_path / "run", say=lambda line: None)


def test_another_tokenizer_is_refused(teacher: Path, tmp_path: Path) -> None:
    path = student(teacher, tmp_path, {"model": str(teacher / "run")}, tokenizer={"kind": "bpe", "vocab_size": 30})
    with pytest.raises(
        UserError, match="has another vocabulary than the student; train the student with the teacher's"
    ):
        run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "a teacher is a `model` or a `store`; give one of them"),
        ({"model": "a", "store": "b"}, "a teacher is a `model` or a `store`; give one of them"),
        ({"store": "b", "dtype": "bfloat16"}, "`dtype` goes with `model`; a store has its own"),
        ({"model": "base"}, "is the model without its adapters, and this one has none"),
        ({"mode": "a"}, "unknown key `stages.0.teacher.mode`"),
        (None, "`distillation` learns from a `teacher`; add one"),
    ],
)
def test_mistakes_in_the_section_are_one_line(teacher: Path, tmp_path: Path, section: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(student(teacher, tmp_path, section))


def test_a_missing_teacher_is_found_before_anything_is_written(teacher: Path, tmp_path: Path) -> None:
    for section, message in (
        ({"model": str(tmp_path / "no")}, "no: no such folder"),
        ({"store": "no"}, "no is no teacher's store"),
    ):
        with pytest.raises(UserError, match=message):
            run_recipe(load_recipe(student(teacher, tmp_path, section)), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_teacher_goes_with_distillation_only(teacher: Path, tmp_path: Path) -> None:
    path = student(teacher, tmp_path, {"model": "a"})
    with pytest.raises(UserError, match="goes with the objectives distillation and minillm only; got maximum_li"):
        load_recipe(path, overrides=["stages.0.objective=maximum_likelihood"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "1000"], "`k` must be in [1, "),
        (["--dtype", "int8"], "--dtype must be one of float16, bfloat16, float32; got 'int8'"),
        (["--temperature", "0"], "--temperature must be greater than 0; got 0"),
    ],
)
def test_impossible_options_are_one_line(teacher: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = invoke("teach", teacher / "run", f"{teacher / 'tiny.yaml'}:train", "-o", tmp_path / "store", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("ctc", {"divergence": "plackett_luce"}, "frames of CTC have none"),
        ("ctc", {"own_samples": 1.0}, "`own_samples` must be 0: a one-pass student"),
    ],
)
def test_what_a_student_cannot_do_is_found_before_anything_is_written(
    teacher: Path, tmp_path: Path, family: str, changes: dict, message: str
) -> None:
    path = student(teacher, tmp_path, {"model": str(teacher / "run")})
    content = yaml.safe_load(path.read_text())
    content["model"]["type"] = family
    content["stages"][0]["objective"] |= changes
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()
