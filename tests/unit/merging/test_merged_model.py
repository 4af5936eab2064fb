"""Weights between a base and its tasks, the gradient of their coefficients, and the divergence that is minimised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from tiny_merge import SOURCES, tiny_models

from sharpseq import SequenceGenerator, UserError
from sharpseq.data import Example
from sharpseq.data.prompts import detach_prompt
from sharpseq.merging import DIVERGENCES, MergedModel
from sharpseq.merging.coefficient_search import GRID, best_coefficient, learn_coefficients
from sharpseq.merging.merged_model import layer_of
from sharpseq.merging.output_divergence import TaskBatches, write_batches
from sharpseq.merging.task_models import SavedModel

KINDS = ["autoregressive", "vanilla_nat", "cmlm", "ctc", "llama", "bart"]


def parts(
    kind: str, folder: Path, *, per_layer: bool = True, double: bool = True
) -> tuple[SavedModel, list[SavedModel], MergedModel, list[TaskBatches]]:
    base, tasks, tokenizer = tiny_models(kind, folder)
    saved = [SavedModel(str(n), model.requires_grad_(False), tokenizer) for n, model in enumerate([base, *tasks])]
    options = {"min_new_tokens": 2} if kind == "bart" else {}
    batches = [
        write_batches(task, sources, options=options, batch_tokens=40, seed=0)
        for task, sources in zip(saved[1:], (SOURCES[:4], SOURCES[2:]), strict=True)
    ]
    for one in saved if double else ():
        one.model.double()
    weights = [one.weights for one in saved]
    return saved[0], saved[1:], MergedModel(weights[0], weights[1:], template=tasks[0], per_layer=per_layer), batches


def objective(merged: MergedModel, tasks: list[TaskBatches], divergence: str) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for task in tasks:
        for number in range(len(task.batches)):
            value, count = task.compare(merged.network, number, divergence=divergence)
            total = total + value / count
    return total


def test_layers_are_found_in_the_names_of_weights() -> None:
    names = {
        "model.layers.11.self_attn.q_proj.weight": "model.layers.11",
        "encoder.block.0.layer.1.wo.weight": "encoder.block.0",
        "model.norm.weight": "model.norm",
        "scale": "scale",
    }
    assert {name: layer_of(name) for name in names} == names


@pytest.mark.parametrize("kind", KINDS)
def test_at_zero_it_is_the_base_and_at_one_the_task(kind: str, tmp_path: Path) -> None:
    base, tasks, _ = tiny_models(kind, tmp_path)
    weights = [dict(model.named_parameters()) for model in (base, *tasks)]
    merged = MergedModel(weights[0], weights[1:], template=tasks[0], per_layer=True)
    merged.set(merged.coefficients(0.0))
    for name, weight in merged.network.named_parameters():
        assert torch.equal(weight, weights[0][name])
    only = merged.coefficients(0.0)
    only[1] = 1.0
    merged.set(only)
    for name, weight in merged.network.named_parameters():
        torch.testing.assert_close(weight, weights[2][name], rtol=1e-6, atol=1e-6)
    assert not merged.network.training


def test_each_layer_has_its_own_coefficients(tmp_path: Path) -> None:
    base, tasks, _ = tiny_models("llama", tmp_path)
    weights = [dict(model.named_parameters()) for model in (base, *tasks)]
    merged = MergedModel(weights[0], weights[1:], template=tasks[0], per_layer=True)
    assert merged.layers == ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]
    coefficients = torch.arange(10, dtype=torch.float64).view(2, 5) / 10
    merged.set(coefficients)
    for name, weight in merged.network.named_parameters():
        column = merged.layers.index(layer_of(name))
        zero, one, two = (each[name].detach() for each in weights)
        first, second = (float(row[column]) for row in coefficients)
        torch.testing.assert_close(weight.detach(), (1 - first - second) * zero + first * one + second * two)


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind: str, per_layer: bool, tmp_path: Path) -> None:
    _, _, merged, tasks = parts(kind, tmp_path, per_layer=per_layer)
    torch.manual_seed(2)
    point = merged.coefficients(0.4) + 0.1 * torch.rand(2, len(merged.layers), dtype=torch.float64)
    merged.set(point)
    objective(merged, tasks, "jensen_shannon").backward()
    found = merged.take_gradient()
    assert all(weight.grad is None for weight in merged.network.parameters())
    assert (merged.take_gradient() == 0).all()
    # Llama computes norms in float32.
    step = 1e-3 if kind == "llama" else 1e-5
    expected = torch.zeros_like(found)
    with torch.no_grad():
        for place in np.ndindex(*found.shape):
            ends = []
            for sign in (1, -1):
                moved = point.clone()
                moved[place] += sign * step
                merged.set(moved)
                ends.append(float(objective(merged, tasks, "jensen_shannon")))
            expected[place] = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-5)
    assert found.abs().max() > 1e-3


def test_divergences_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.ones(7), size=5), generator.dirichlet(np.ones(7), size=5)
    p[0, :3] = 0
    p /= p.sum(1, keepdims=True)
    middle = (p + q) / 2
    with np.errstate(divide="ignore"):
        task, merged = torch.tensor(np.log(p)), torch.tensor(np.log(q))
    expected = {
        "kl": rel_entr(p, q).sum(1),
        "reverse_kl": rel_entr(q, p).sum(1),
        "jensen_shannon": (rel_entr(p, middle) + rel_entr(q, middle)).sum(1) / 2,
    }
    for name, measure in DIVERGENCES.items():
        np.testing.assert_allclose(measure.exact(target_logits=task, model_logits=merged), expected[name], rtol=1e-10)
        np.testing.assert_allclose(measure.exact(target_logits=merged, model_logits=merged), np.zeros(5), atol=1e-15)


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_every_position_of_the_written_outputs_is_compared(kind: str, tmp_path: Path) -> None:
    _, tasks, merged, batches = parts(kind, tmp_path)
    merged.set(merged.coefficients(0.3))
    total = count = 0.0
    for batch in batches[0].batches:
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        with torch.no_grad():
            p, q = (model(**inputs).logits.double().softmax(-1).numpy() for model in (tasks[0].model, merged.network))
        labels = batch["labels"].numpy()
        scored = labels != -100
        if kind == "llama":
            scored = np.pad(scored[:, 1:], ((0, 0), (0, 1)))
        total += rel_entr(p, q).sum(-1)[scored].sum()
        count += scored.sum()
    found = batches[0].mean(merged.network, divergence="kl")
    assert found == pytest.approx(total / count, rel=1e-5)
    assert count > 8


def test_outputs_are_what_the_task_writes_and_targets_are_not_read(tmp_path: Path) -> None:
    _, tasks, tokenizer = tiny_models("autoregressive", tmp_path)
    saved = SavedModel("task", tasks[0], tokenizer)
    examples = [Example(each.source, "never read") for each in SOURCES]
    found = write_batches(saved, examples, options={}, batch_tokens=1000, seed=0)
    rows = [row[row != -100].tolist() for batch in found.batches for row in batch["labels"]]
    written = {output.text for output in SequenceGenerator(tasks[0], tokenizer).generate([e.source for e in SOURCES])}
    assert {tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows} <= written
    assert all(row[-1] == tokenizer.eos_token_id for row in rows)
    assert "n" not in "".join(tokenizer.decode(row) for row in rows).replace("<unk>", "")


@pytest.mark.parametrize(
    ("kind", "divergence"), [("autoregressive", "jensen_shannon"), ("ctc", "kl"), ("llama", "reverse_kl")]
)
def test_learning_beats_the_best_single_coefficient_and_repeats_itself(
    kind: str, divergence: str, tmp_path: Path
) -> None:
    _, _, merged, tasks = parts(kind, tmp_path, double=False)

    def mean_at(coefficients: torch.Tensor) -> float:
        merged.set(coefficients)
        return sum(task.mean(merged.network, divergence=divergence) for task in tasks) / 2

    settings: dict[str, Any] = {"start": 0.5, "divergence": divergence, "steps": 12, "learning_rate": 0.1}
    learned = learn_coefficients(merged, tasks, **settings)
    assert torch.equal(learned, learn_coefficients(merged, tasks, **settings))
    best = best_coefficient(merged, tasks, divergence=divergence)
    singles = {value: mean_at(merged.coefficients(value)) for value in GRID}
    assert best == min(singles, key=singles.__getitem__)
    assert mean_at(learned) < singles[best] < mean_at(merged.coefficients(0.0))


def test_one_task_alone_is_found(tmp_path: Path) -> None:
    base, (task, _), tokenizer = tiny_models("autoregressive", tmp_path)
    saved = SavedModel("task", task, tokenizer)
    batches = write_batches(saved, SOURCES, options={}, batch_tokens=200, seed=0)
    weights = [{name: weight.detach() for name, weight in model.named_parameters()} for model in (base, task)]
    merged = MergedModel(weights[0], weights[1:], template=task, per_layer=False)
    learned = learn_coefficients(merged, [batches], start=0.2, divergence="jensen_shannon", steps=25, learning_rate=0.2)
    torch.testing.assert_close(learned, torch.ones(1, 1, dtype=torch.float64), rtol=0, atol=0.05)


def test_a_model_that_writes_nothing_or_has_no_prompt_is_refused(tmp_path: Path) -> None:
    _, tasks, tokenizer = tiny_models("llama", tmp_path)
    saved = SavedModel("here", tasks[0], tokenizer)
    with pytest.raises(UserError, match="here writes nothing for its data"):
        write_batches(saved, [Example(" ", "")], options={}, batch_tokens=100, seed=0)
    with pytest.raises(UserError, match=r"here: .*num_beems"):
        write_batches(saved, SOURCES, options={"num_beems": 2}, batch_tokens=100, seed=0)
    detach_prompt(tokenizer)
    with pytest.raises(UserError, match="here: `tokenizer` has no prompt"):
        write_batches(saved, SOURCES, options={}, batch_tokens=100, seed=0)
