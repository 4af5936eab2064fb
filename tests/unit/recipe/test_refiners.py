"""Stages that train a refinement network, and stages decoded in ways of their own: what is read and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpseq import UserError
from sharpseq.recipe import Recipe, dump_recipe, parse_recipe, schema, stages
from sharpseq.runs.recipe_methods import with_methods

TEXT = """\
name: example
data:
  train: &corpus {type: tsv, path: train.tsv}
  validation: *corpus
tokenizer: {kind: characters}
model:
  type: latent_nat
  decoder_layers: 2
stages:
  - name: elbo
    objective: {name: maximum_likelihood}
    decodings: [delta]
  - name: score
    objective: {name: gradient_matching}
    refiner: {parameterization: score}
    decodings: [delta, learned]
  - name: energy
    objective:
      name: gradient_matching
      delta_steps: 2
      update_probability: 1
    refiner:
      parameterization: energy
      num_layers: 1
  - name: convex
    start_from: elbo
    objective: {name: convex_composition}
    evaluate: false
evaluation:
  rescorer: runs/teacher
  decodings:
    delta: {}
    learned: {decoder: latent_refinement}
"""


def parse(text: str = TEXT) -> Recipe:
    return with_methods(parse_recipe(text, where="r.yaml"))


def test_what_is_left_out_has_a_default() -> None:
    recipe = parse()
    elbo, score, energy, _ = recipe.stages
    assert score.objective.plain == {"name": "gradient_matching", "delta_steps": 4, "update_probability": 0.5}
    assert score.refiner == stages.Refiner(parameterization="score", dropout=0.0)
    assert energy.refiner == stages.Refiner(parameterization="energy", num_layers=1)
    assert elbo.refiner is None
    assert parse(dump_recipe(recipe)) == recipe
    assert [recipe.start_of(stage) for stage in recipe.stages] == [None, "elbo", "score", "elbo"]
    assert {stage.name: list(recipe.decodings_of(stage)) for stage in recipe.stages} == {
        "elbo": ["delta"],
        "score": ["delta", "learned"],
        "energy": ["delta", "learned"],
        "convex": [],
    }


def test_sizes_that_are_left_out_are_those_of_the_decoder() -> None:
    from sharpseq.runs.building import build_refiner

    recipe = parse()
    assert isinstance(recipe.model, schema.Family)
    config = build_refiner(stages.Refiner(parameterization="score"), recipe.model).config
    assert (config.num_layers, config.num_attention_heads, config.ffn_dim) == (2, 4, 1024)
    assert (config.latent_size, config.d_model, config.dropout, config.trained_for) == (8, 256, 0.0, "")
    chosen = stages.Refiner(parameterization="energy", num_layers=3, num_attention_heads=2, ffn_dim=8, dropout=0.1)
    config = build_refiner(chosen, recipe.model).config
    assert (config.num_layers, config.num_attention_heads, config.ffn_dim, config.dropout) == (3, 2, 8, 0.1)


def test_a_figure_that_is_there_selects_the_best_checkpoint(tmp_path: Path) -> None:
    from sharpseq.runs.building import build_arguments

    recipe = parse()
    selected = [build_arguments(recipe, stage, tmp_path) for stage in recipe.stages[:2]]
    assert [(each.metric_for_best_model, each.greater_is_better) for each in selected] == [
        ("eval_elbo", True),
        ("eval_loss", False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    refiner: {parameterization: score}\n",
            "",
            "r.yaml:14: `gradient_matching` trains a `refiner`; add one, such as `refiner: {parameterization: score}`",
        ),
        (
            "    objective: {name: gradient_matching}\n",
            "    objective: {name: maximum_likelihood}\n",
            "r.yaml:15: `refiner` goes with `objective: {name: gradient_matching}` only; got maximum_likelihood",
        ),
        (
            "  type: latent_nat",
            "  type: vanilla_nat",
            "r.yaml:14: `gradient_matching` needs `model.type: latent_nat`; got vanilla_nat",
        ),
        (
            "{name: maximum_likelihood}\n    decodings",
            "{name: gradient_matching}\n    refiner: {parameterization: score}\n    decodings",
            "r.yaml:11: `gradient_matching` refines a trained model; put the stage that trains it first",
        ),
        (
            "    start_from: elbo\n",
            "    start_from: energy\n",
            "r.yaml:26: `start_from` leads to 'energy', whose refinement network fits no other weights; start from "
            "'elbo', which has the same without it",
        ),
        ("    start_from: elbo\n", "", "r.yaml:25: `start_from` leads to 'energy', whose refinement network fits no"),
        ("start_from: elbo", "start_from: elbow", "r.yaml:26: `start_from` must name an earlier stage; did you mean"),
        (
            "    decodings: [delta, learned]",
            "    decodings:\n      - delta\n      - leaned",
            "r.yaml:18: `decodings` must name some of `evaluation.decodings`; did you mean `learned`?",
        ),
        ("[delta, learned]", "[delta, delta]", "r.yaml:16: `decodings` has 'delta' twice; leave one out"),
        ("    decodings: [delta]\n", "    decodings: []\n", "r.yaml:12: `stages.0.decodings`: list should have at"),
        ("delta_steps: 2", "delta_steps: 0", "r.yaml:20: `stages.2.objective.delta_steps` must be at least 1; got 0"),
        (
            "probability: 1",
            "probability: 2",
            "r.yaml:21: `stages.2.objective.update_probability` must be in [0, 1]; got 2.0",
        ),
        ("delta_steps: 2", "delta_step: 2", "r.yaml:20: unknown key `stages.2.objective.delta_step`; did you mean"),
        ("num_layers: 1", "num_layer: 1", "r.yaml:24: unknown key `stages.2.refiner.num_layer`; did you mean `num_l"),
        (
            "parameterization: energy",
            "parameterization: gradient",
            "r.yaml:23: `stages.2.refiner.parameterization`: input should be 'score' or 'energy'; got 'gradient'",
        ),
        ("{name: gradient_matching}", "{name: gradient_maching}", "r.yaml:14: `stages.1.objective.name` must not be"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError) as caught:
        parse(TEXT.replace(old, new, 1))
    assert str(caught.value).startswith(message)
