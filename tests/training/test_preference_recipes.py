"""Preferences in recipes: a stage after another one, what is stored, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_recipe import write_recipe

from sharpseq.errors import UserError
from sharpseq.runs import load_recipe, run_recipe

QUIET = {"bf16": False, "max_steps": 6, "eval_steps": 3, "per_device_train_batch_tokens": 128}


def write_pairs(folder: Path, name: str, count: int, *, seed: int = 0) -> None:
    """Write reversed words, the task of the tiny recipe, as better than sorted ones."""
    generator = random.Random(seed)
    lines = []
    while len(lines) < count:
        word = "".join(generator.choices("abcdefgh", k=generator.randint(2, 8)))
        if word[::-1] != "".join(sorted(word)):
            lines.append(json.dumps({"prompt": word, "chosen": word[::-1], "rejected": "".join(sorted(word))}))
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def preference_recipe(folder: Path, family: str = "ctc", **stage: Any) -> Path:
    """Write a recipe whose second stage learns from preferences."""
    path = write_recipe(folder, family)
    content = yaml.safe_load(path.read_text())
    write_pairs(folder, "train.jsonl", 40)
    write_pairs(folder, "validation.jsonl", 8, seed=1)
    content["data"]["preferences"] = {
        name: {"type": "preferences", "path": f"{name}.jsonl"} for name in ("train", "validation")
    }
    second = content["stages"][1]
    content["stages"][0]["training"] |= QUIET
    second["objective"] = {"name": "f_dpo", "beta": 0.5}
    second["training"] |= QUIET
    second.update(stage)
    del content["validation"]
    content["evaluation"] = {"metrics": ["exact_match"], "latency_sentences": 0}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def stage_rows(run: Path, stage: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["stage"] == stage]


@pytest.mark.parametrize("family", ["ctc", "autoregressive"])
def test_a_stage_learns_what_is_preferred(tmp_path: Path, family: str) -> None:
    said: list[str] = []
    recipe = load_recipe(preference_recipe(tmp_path, family))
    result = run_recipe(recipe, tmp_path / "run", say=said.append)
    assert result is not None
    assert result.model.is_dir()
    rows = stage_rows(tmp_path / "run", "second")
    first = next(row for row in rows if "loss" in row)
    evaluated = [row for row in rows if "eval_loss" in row]
    assert first["margin"] < 0.5
    assert evaluated[-1]["eval_margin"] > 0
    assert evaluated[-1]["eval_loss"] < 0.6931
    assert any(line.startswith("preferences, train: kept") for line in said)


def test_a_reference_can_be_scored_before_training(tmp_path: Path) -> None:
    found = {}
    for stores in (False, True):
        folder = tmp_path / str(stores)
        folder.mkdir()
        recipe = load_recipe(preference_recipe(folder, "autoregressive", stored_reference=stores))
        run_recipe(recipe, folder / "run", say=lambda line: None)
        assert (folder / "run" / "stages" / "second" / "reference.safetensors").exists() == stores
        found[stores] = [row["eval_loss"] for row in stage_rows(folder / "run", "second") if "eval_loss" in row]
    assert found[True] == pytest.approx(found[False], abs=1e-4)


def test_stored_scores_go_with_objectives_that_read_them(tmp_path: Path) -> None:
    path = preference_recipe(tmp_path, "autoregressive", stored_reference=True)
    refused(path, "`stored_reference` must be false: `ra_dpo` compares", overrides=["stages.1.objective=ra_dpo"])
    overrides = ["stages.0.stored_reference=true"]
    refused(path, "`stored_reference` goes with objectives of preferences only", overrides=overrides)


def refused(path: Path, match: str, **overrides: Any) -> None:
    with pytest.raises(UserError, match=match) as error:
        run_recipe(load_recipe(path, **overrides), path.parent / "run", say=lambda line: None)
    assert "\n" not in str(error.value)


def test_a_stage_without_preferences_is_refused(tmp_path: Path) -> None:
    path = preference_recipe(tmp_path)
    content = yaml.safe_load(path.read_text())
    del content["data"]["preferences"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    refused(path, r"tiny.yaml:\d+: `f_dpo` learns from pairs of answers; add `data.preferences`")


def test_a_first_stage_has_nothing_to_compare_with(tmp_path: Path) -> None:
    path = preference_recipe(tmp_path)
    refused(
        path, "`h_dpo` compares with the weights that the stage starts from", overrides=["stages.0.objective=h_dpo"]
    )


@pytest.mark.parametrize("family", ["cmlm", "masked_diffusion", "latent_nat"])
def test_a_model_without_a_probability_is_refused(tmp_path: Path, family: str) -> None:
    refused(preference_recipe(tmp_path, family), r"tiny.yaml:\d+: f_dpo: the loss compares the probability of answers")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "ab", "chosen": "a", "rejected": "a"}', "`chosen` and `rejected` are the same text"),
        ('{"prompt": "ab", "chosen": "a", "rejected": " "}', "the answer `rejected` is empty"),
        ('{"prompt": "ab", "chosen": "a"}', "no field `rejected`; the fields there are: `prompt`, `chosen`"),
        ('{"prompt": "ab", "chosen": 3, "rejected": "a"}', "field `chosen` holds a number"),
    ],
)
def test_bad_lines_are_named_before_anything_is_trained(tmp_path: Path, line: str, message: str) -> None:
    path = preference_recipe(tmp_path)
    good = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join([good[0], line]), encoding="utf-8")
    refused(path, rf"tiny.yaml:\d+: {tmp_path}/train.jsonl:2: .*{message}")
    assert not (tmp_path / "run").exists()
