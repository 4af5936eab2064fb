"""f-SFT of whole models: what the first update is, exact sums over the vocabulary, and recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_pretrained import write_llama, write_pretrained_recipe
from tiny_recipe import write_recipe
from tiny_task import examples, tiny_model, trainer

from sharpseq import MaximumLikelihood, UserError, load_recipe, run_recipe
from sharpseq.objectives.implicit_rewards import IMPLICIT_REWARDS, UTILITIES
from sharpseq.runs.checks import check_model
from sharpseq.training import FSft, FSftBregman, ScoreLoss, Step, collator_for

STEP = Step(progress=0.0, update=0, seed=0, is_training=True)


def gradients(loss: Any, model: torch.nn.Module, batch: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss(model, batch, STEP).losses.sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", ["autoregressive", "vanilla_nat", "ctc"])
@pytest.mark.parametrize("method", [*map(FSft, UTILITIES), *map(FSftBregman, IMPLICIT_REWARDS)], ids=str)
def test_at_the_reference_the_gradient_is_that_of_maximum_likelihood(family: str, method: Any) -> None:
    """Times f''(1) without a pull: every φ'(0) is 1."""
    if family == "ctc" and isinstance(method, FSftBregman):
        return
    factor = 1.0
    if isinstance(method, FSftBregman):
        factor = {"kl": 1.0, "pearson": 2.0, "hellinger": 0.5, "jensen_shannon": 0.5}[method.divergence]
    model = tiny_model(family).double()
    batch = collator_for(model)(examples(4, autoregressive=family == "autoregressive"))
    found = gradients(method.loss(copy.deepcopy(model)), model, batch)
    expected = gradients(ScoreLoss(MaximumLikelihood()), model, batch)
    assert found.keys() == expected.keys()
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], factor * slope, rtol=1e-6, atol=1e-9)


def test_the_sum_over_the_vocabulary_is_exact() -> None:
    model, reference = tiny_model("autoregressive").double(), tiny_model("autoregressive").double()
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    batch = collator_for(model)(examples(3, autoregressive=True))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    with torch.no_grad():
        output = FSftBregman("pearson").loss(reference)(model, batch, STEP)
        ratios = (model(**inputs).logits.softmax(-1) / reference(**inputs).logits.softmax(-1)).double()
        probs = reference(**inputs).logits.softmax(-1)
    for row, labels in enumerate(batch["labels"].tolist()):
        total, count = 0.0, 0
        for position, label in enumerate(labels):
            if label >= 0:
                u, q = ratios[row, position], probs[row, position]
                total += float((q * (u**2 - 1)).sum() - 2 * (u[label] - 1))
                count += 1
        assert output.losses[row].item() == pytest.approx(total / count, rel=1e-9)


def test_the_reference_stays_and_training_uses_it(tmp_path: Path) -> None:
    model = tiny_model("vanilla_nat").double()
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    method = FSft("pearson", beta=2.0)
    run = trainer(tmp_path, "vanilla_nat", objective=None, loss=method.loss(copy.deepcopy(model)), model=model)
    run.train()
    assert {name: torch.equal(weight, start[name]) for name, weight in run.loss.reference.state_dict().items()} == {
        name: True for name in start
    }
    assert not torch.equal(model.embedding.weight, start["embedding.weight"])
    assert run.state.log_history[0]["weight_mean"] == 1
    assert run.state.log_history[2]["weight_mean"] != 1


def test_models_without_a_probability_to_compare_are_refused() -> None:
    for family in ("cmlm", "masked_diffusion", "latent_nat"):
        with pytest.raises(ValueError, match="has only that of a random part of it, or a bound"):
            FSft().loss(tiny_model(family))


# Recipes


@pytest.mark.parametrize(
    "objective", [{"name": "f_sft", "divergence": "pearson", "beta": 0.5}, {"name": "f_sft_bregman"}], ids=str
)
def test_a_recipe_with_adapters_runs(objective: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, write_llama(tmp_path / "llama"))
    content = yaml.safe_load(recipe.read_text())
    content["stages"][1] |= {"objective": objective, "start_from": "first"}
    recipe.write_text(yaml.safe_dump(content))
    result = run_recipe(load_recipe(recipe), tmp_path / "run", say=lambda line: None)
    assert result is not None
    assert "divergence pearson" in (result.model / "README.md").read_text()


def test_a_recipe_of_our_own_models_runs_with_a_schedule(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "vanilla_nat")
    content = yaml.safe_load(recipe.read_text())
    beta = {"schedule": "linear", "start": 0.1, "end": 1.0}
    content["stages"][1]["objective"] = {"name": "f_sft", "divergence": "hellinger", "beta": beta}
    content["stages"][1]["training"] |= {"max_steps": 2, "logging_steps": 1, "eval_steps": 2}
    content["stages"][0]["training"] |= {"max_steps": 2, "eval_steps": 2}
    recipe.write_text(yaml.safe_dump(content))
    result = run_recipe(load_recipe(recipe), tmp_path / "run", say=lambda line: None)
    assert result is not None
    assert '"beta": 0.55' in (result.folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("family", "stage", "objective", "message"),
    [
        ("ctc", 0, "f_sft", "`f_sft` compares with the weights that the stage starts from, and these are random"),
        ("ctc", 1, "f_sft_bregman", "f_sft_bregman: the loss reads the log-probability of each token"),
        ("cmlm", 1, "f_sft", "f_sft: the loss compares the probability of a target"),
        ("ctc", 1, {"name": "f_sft", "divergence": "person"}, "`stages.1.objective.divergence`: input should be"),
        ("ctc", 1, {"name": "f_sft", "beta": 0}, "`stages.1.objective.beta` must be greater than 0"),
    ],
)
def test_what_does_not_fit_is_one_line(family: str, stage: int, objective: Any, message: str, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, family)
    content = yaml.safe_load(recipe.read_text())
    content["stages"][stage]["objective"] = objective
    recipe.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"tiny.yaml:\d+: ") as raised:
        check_model(load_recipe(recipe))
    assert message in str(raised.value)
