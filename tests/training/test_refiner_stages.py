"""Stages of a recipe that train a refinement network: from data to report, broken off, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import finish, kill_when, start
from tiny_recipe import write_recipe

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.models import LatentNat
from sharpseq.recipe import Recipe
from sharpseq.runs.checks import check_model
from sharpseq.runs.folder import RunFolder
from sharpseq.training.checkpoints import MANIFEST
from sharpseq.training.progress import read_metrics

STAGES = """\
  - name: score
    start_from: first
    objective: {name: gradient_matching, delta_steps: 2}
    refiner: {parameterization: score, num_layers: 1, dropout: 0.1}
    training: &refining
      <<: *training
      max_steps: 6
    decodings: [refined]
  - name: energy
    objective: {name: gradient_matching, delta_steps: 1, update_probability: 0}
    refiner: {parameterization: energy}
    training: *refining
    average_checkpoints: 2
    decodings: [refined, prior]
validation: {metric: exact_match, num_examples: 5}
evaluation:
  decodings:
    prior: {steps: 0}
    delta: {decoder: delta_inference, steps: 2}
    refined: {decoder: latent_refinement, steps: 1}
"""


def latent_recipe(folder: Path, *, stages: str = STAGES) -> Path:
    """Write a recipe of a latent-variable model and two refinement networks, and return its path."""
    path = write_recipe(folder, "latent_nat")
    text = path.read_text(encoding="utf-8")
    text = (
        text[: text.index("  - name: second")]
        + stages
        + text[text.index("  metrics:") :].replace("[exact_match, word_error_rate]", "[exact_match]")
    )
    text = text.replace("evaluate: false", "decodings: [prior, delta]").replace("max_steps: 12", "max_steps: 8")
    path.write_text(text, encoding="utf-8")
    return path


def translation_weights(folder: Path) -> Mapping[str, torch.Tensor]:
    saved = load_file(folder / "model.safetensors")
    return {name: weight for name, weight in saved.items() if not name.startswith("refiner.")}


def test_a_recipe_trains_networks_for_one_model_and_evaluates_each_in_its_ways(tmp_path: Path) -> None:
    said: list[str] = []
    result = run_recipe(load_recipe(latent_recipe(tmp_path)), tmp_path / "run", say=said.append)
    assert [each.system for each in result.results["test"]] == [
        "first prior",
        "first delta",
        "score refined",
        "energy refined",
        "energy prior",
    ]
    by_name = {each.system: each.hypotheses for each in result.results["test"]}
    assert by_name["energy prior"] == by_name["first prior"], "the translation model is the same"

    stages = tmp_path / "run" / "stages"
    start = translation_weights(stages / "first" / "model")
    for stage, kind, layers in (("score", "score", 1), ("energy", "energy", 1)):
        weights = translation_weights(stages / stage / "model")
        assert weights.keys() == start.keys()
        assert all(torch.equal(weight, start[name]) for name, weight in weights.items())
        model = LatentNat.from_pretrained(stages / stage / "model")
        assert model.refiner is not None
        assert model.refiner.parameterization == kind
        assert model.refiner.config.num_layers == layers
        assert model.refiner.config.trained_for == model.fingerprint()
        assert not list((stages / stage).glob("checkpoint-*"))
    assert "stage energy: starting from score" in said
    assert "stage energy: mean of the last 2 checkpoints" in said
    assert not (set(load_file(stages / "first" / "model" / "model.safetensors")) - set(start))

    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["stage"] == "score"]
    assert all({"gradient_square", "cosine", "tokens_per_second"} <= set(row) for row in rows if "loss" in row)
    evaluated = [row for row in rows if "eval_loss" in row]
    assert [row["step"] for row in evaluated] == [4, 6]
    assert {"eval_cosine", "eval_exact_match", "eval_displacement_square"} <= set(evaluated[0])

    report = result.report.read_text(encoding="utf-8")
    assert "gradient_matching" in report
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert "`energy`, from `score`: gradient_matching (delta_steps 1)" in card
    assert "a refinement network (energy)" in card

    generator = SequenceGenerator.from_pretrained(tmp_path / "run", decoder="latent_refinement", options={"steps": 1})
    sources = [line.split("\t")[0] for line in (tmp_path / "validation.tsv").read_text().splitlines()]
    assert [output.text for output in generator.generate(sources)] == list(by_name["energy refined"] or ())


def losses(run: Path) -> list[tuple[str, int, float]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [(row["stage"], row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]


@pytest.mark.slow
def test_killed_twice_a_refinement_stage_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = latent_recipe(tmp_path)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(recipe, straight)
    score = broken / "stages" / "score"
    # Between a checkpoint and the end of the stage, then while the finished stage is being saved, or right after.
    kill_when(start(recipe, broken), lambda: (score / "checkpoint-4" / MANIFEST).exists())
    kill_when(start(recipe, broken), lambda: any(score.glob(".model.*.unfinished")))
    assert "resuming" in finish(recipe, broken)
    for part in ("stages/score/model", "stages/energy/model", "model"):
        ours, theirs = (run / part / "model.safetensors" for run in (broken, straight))
        assert ours.read_bytes() == theirs.read_bytes()
    losses = [
        [
            (row["stage"], row["step"], row["eval_loss"])
            for row in read_metrics(run / "metrics.jsonl")
            if "eval_loss" in row
        ]
        for run in (broken, straight)
    ]
    assert losses[0] == losses[1]


# The rescorer


def test_a_rescorer_chooses_in_every_decoding_that_has_candidates(tmp_path: Path) -> None:
    for family in ("autoregressive", "latent_nat"):
        (tmp_path / family).mkdir()
    short = ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1", "stages.1.evaluate=false"]
    teacher = tmp_path / "teacher"
    run_recipe(
        load_recipe(write_recipe(tmp_path / "autoregressive", "autoregressive"), overrides=short), teacher, say=_silent
    )
    decodings = {
        "one": {"steps": 0},
        "lengths": {"steps": 0, "length_beam": 3},
        "search": {"decoder": "latent_search", "length_beam": 2, "num_samples": 2},
    }
    recipe = load_recipe(
        latent_recipe(tmp_path / "latent_nat", stages="evaluation:\n"),
        overrides=[
            *short[:1],
            "stages.0.decodings=null",
            f"evaluation.decodings={json.dumps(decodings)}",
            f"evaluation.rescorer={teacher}",
        ],
    )
    result = run_recipe(recipe, tmp_path / "run", say=_silent)
    settings = {each.system: each.decoder_settings for each in result.results["test"]}
    assert {name: "rescorer" in (found or {}) for name, found in settings.items()} == {
        "first one": False,
        "first lengths": True,
        "first search": True,
    }
    generator = SequenceGenerator.from_pretrained(tmp_path / "run", options=decodings["lengths"])
    sources = [line.split("\t")[0] for line in (tmp_path / "latent_nat" / "validation.tsv").read_text().splitlines()]
    chosen = next(each.hypotheses for each in result.results["test"] if each.system == "first lengths")
    assert [output.text for output in generator.generate(sources)] != list(chosen or ())

    other = load_recipe(recipe_with_other_letters(tmp_path, teacher))
    with pytest.raises(UserError, match=r"tiny.yaml:\d+: `rescorer` .*teacher: it has another vocabulary"):
        run_recipe(other, tmp_path / "other", say=_silent)


def recipe_with_other_letters(folder: Path, teacher: Path) -> Path:
    (folder / "letters").mkdir()
    path = write_recipe(folder / "letters", "vanilla_nat")
    for name in ("train", "validation"):
        file = folder / "letters" / f"{name}.tsv"
        file.write_text(file.read_text(encoding="utf-8").replace("a", "z"), encoding="utf-8")
    text = path.read_text(encoding="utf-8") + f"  rescorer: {teacher}\n"
    path.write_text(text, encoding="utf-8")
    return path


# What is refused before training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["stages.first.decodings=[prior, refined]"],
            "--set stages.first.decodings=[prior, refined]: the decoding `refined` needs a refinement network, which "
            "stage 'first' does not train; give its `decodings` without it",
        ),
        (
            ["stages.first.decodings=null"],
            "--set stages.first.decodings=null: the decoding `refined` needs a refinement network",
        ),
        (
            ["evaluation.decodings.prior={decoder: latent_search, refinement: learned}"],
            "--set evaluation.decodings.prior={decoder: latent_search, refinement: learned}: `rescorer` must choose "
            "between 25 candidates",
        ),
        (
            ["evaluation.decodings.prior={decoder: latent_refinement, steps: 0}"],
            "tiny.yaml:23: the decoding `prior` needs a refinement network, which stage 'first' does not train",
        ),
        (["evaluation.decodings.refined.steps=-1"], "tiny.yaml:50: `steps` must be at least 0; got -1"),
        (["evaluation.rescorer=./nowhere"], "--set evaluation.rescorer=./nowhere: `rescorer`: nowhere: no such folder"),
        (
            ["stages.score.refiner.num_attention_heads=3"],
            "tiny.yaml:34: `refiner`: `d_model` must be an even multiple of `num_attention_heads`; got 16 and 3",
        ),
    ],
)
def test_what_cannot_be_decoded_or_built_is_refused_before_training(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    recipe = load_recipe(latent_recipe(tmp_path), overrides=overrides)
    with pytest.raises(UserError) as caught:
        check_model(recipe)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(message)


def test_a_rescorer_with_nothing_to_choose_from_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, "ctc"), overrides=["evaluation.rescorer=anything"])
    with pytest.raises(UserError, match="`rescorer` has nothing to choose from: no candidates with ctc_best_path"):
        check_model(recipe)


def test_weights_of_the_loss_are_refused_before_training(tmp_path: Path) -> None:
    recipe = load_recipe(latent_recipe(tmp_path), overrides=["stages.score.training.divide_by_mean_weight=true"])
    with pytest.raises(UserError, match="`divide_by_mean_weight` does not go with `gradient_matching`"):
        run_recipe(recipe, tmp_path / "run", say=_silent)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_begun_before_recipes_had_these_keys_is_resumed(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    folder = RunFolder(tmp_path / "run")
    assert not folder.claim(recipe)
    text = folder.recipe_file.read_text(encoding="utf-8")
    older = [line for line in text.splitlines() if not re.match(r" *(refiner|decodings|rescorer): null", line)]
    assert len(older) < len(text.splitlines())
    folder.recipe_file.write_text("\n".join(older), encoding="utf-8")
    assert folder.claim(recipe)


def test_a_recipe_survives_a_round_trip(tmp_path: Path) -> None:
    recipe = load_recipe(latent_recipe(tmp_path))
    content: dict[str, Any] = recipe.model_dump(mode="json")
    assert Recipe.model_validate(content) == recipe


def _silent(line: str) -> None:
    pass
