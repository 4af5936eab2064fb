from __future__ import annotations

from pathlib import Path

import pytest
from tiny_recipe import write_recipe

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.decoding import NgramModel
from sharpseq.generation import LANGUAGE_MODEL_FILE
from sharpseq.recipe import Recipe

SETTINGS = ["stages.0.training.max_steps=2", "stages.1.training.max_steps=2", "language_model.order=3"]


def recipe_with(tmp_path: Path, *more: str, family: str = "ctc") -> Recipe:
    return load_recipe(write_recipe(tmp_path, family), overrides=[*SETTINGS, *more])


def test_a_language_model_is_trained_once_and_kept_with_every_model(tmp_path: Path) -> None:
    said: list[str] = []
    recipe = recipe_with(tmp_path, "evaluation.decodings={beam: {decoder: ctc_prefix_beam, lm_weight: 0.5}}")
    result = run_recipe(recipe, tmp_path / "run", say=said.append)
    assert result is not None
    assert sum(line.startswith("language model: n-grams of the training targets") for line in said) == 1
    for folder in (result.model, tmp_path / "run/stages/first/model"):
        generator = SequenceGenerator.from_pretrained(folder, decoder="ctc_prefix_beam")
        assert isinstance(generator.language_model, NgramModel) and generator.language_model.order == 3

    # A copy that is damaged is copied again, and the model is not trained twice.
    damaged = tmp_path / "run/stages/first/model" / LANGUAGE_MODEL_FILE
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    said.clear()
    run_recipe(recipe, tmp_path / "run", say=said.append)
    assert damaged.read_bytes() == whole
    assert not any(line.startswith("language model:") for line in said)


def test_the_weight_decides_what_is_written(tmp_path: Path) -> None:
    beam = "decoder: ctc_prefix_beam, token_bonus: 5.0"
    decodings = f"{{none: {{{beam}}}, all: {{{beam}, lm_weight: 20.0}}}}"
    recipe = recipe_with(tmp_path, f"evaluation.decodings={decodings}", "evaluation.latency_sentences=0")
    result = run_recipe(recipe, tmp_path / "run", say=lambda line: None)
    assert result is not None
    outputs = {each.system: each.hypotheses for each in result.results["test"]}
    assert outputs["second none"] != outputs["second all"]


@pytest.mark.parametrize(
    ("family", "more", "reported"),
    [
        ("vanilla_nat", [], "`language_model`: no decoder of vanilla_nat asks one; leave it out"),
        ("ctc", ["language_model.order=1"], "`language_model.order`: input should be greater than or equal to 2"),
    ],
)
def test_mistakes(tmp_path: Path, family: str, more: list[str], reported: str) -> None:
    with pytest.raises(UserError, match=reported):
        run_recipe(recipe_with(tmp_path, *more, family=family), tmp_path / "run")


def test_a_weight_needs_a_language_model(tmp_path: Path) -> None:
    decodings = "evaluation.decodings={beam: {decoder: ctc_prefix_beam, lm_weight: 0.5}}"
    recipe = load_recipe(write_recipe(tmp_path, "ctc"), overrides=[decodings])
    with pytest.raises(UserError, match=r"`lm_weight` is 0\.5, and there is no language model"):
        run_recipe(recipe, tmp_path / "run")
