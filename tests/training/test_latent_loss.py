"""The loss of a latent-variable model: the evidence lower bound, and the convex loss in place of its reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import SIZES, examples, trainer
from torch import Tensor

from sharpseq import ConvexComposition, Exponential, MaximumLikelihood
from sharpseq.data import EncodedExample
from sharpseq.declarations import Linear, WarmUp
from sharpseq.models import LatentNat, LatentNatConfig
from sharpseq.scoring import DiagonalGaussian

COUNT = 8


@pytest.fixture(autouse=True)
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is always this far from the mean, so that losses can be worked out."""
    monkeypatch.setattr(DiagonalGaussian, "sample", lambda gaussian: gaussian.mean + 0.5 * gaussian.log_std.exp())


def tiny_model() -> LatentNat:
    torch.manual_seed(0)
    model = LatentNat(LatentNatConfig(vocab_size=15, latent_size=3, dropout=0.0, **SIZES))
    with torch.no_grad():
        model.latent_input.weight.mul_(4)
        for head in (model.prior_head, model.posterior_head):
            head.weight.normal_(std=0.15)
    return model.double()


def by_hand(model: LatentNat, data: Sequence[EncodedExample]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return log p(y|z, x), the KL (T, D) and log p(T|x) of each example, one at a time and without `forward`."""
    found = []
    for example in data:
        source, target = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        length = torch.tensor([target.shape[1]])
        encoded = model.encode(source, torch.ones_like(source))
        prior, posterior = model.prior(encoded, length), model.posterior(encoded, target, length)
        std, prior_std = posterior.log_std.exp(), prior.log_std.exp()
        logits = model.decode_latent(encoded, posterior.mean + 0.5 * std, length)
        log_prob = logits.log_softmax(-1)[0].gather(1, target.T).sum()
        ratio = (std.square() + (posterior.mean - prior.mean).square()) / (2 * prior_std.square())
        kl = (prior_std / std).log() + ratio - 0.5
        classes = model.length_predictor(encoded)[0]
        found.append((log_prob, kl[0], classes[50 + target.shape[1] - source.shape[1]]))
    return found


def one_update(folder: Path, objective: Any, **settings: Any) -> Any:
    settings = {
        "max_steps": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": COUNT,
        **settings,
    }
    run = trainer(folder, "latent_nat", count=COUNT, model=tiny_model(), objective=objective, **settings)
    run.train()
    return run


def assert_same_update(run: Any, model: LatentNat, loss: Tensor) -> None:
    loss.backward()
    for name, weight in model.named_parameters():
        step = torch.zeros_like(weight) if weight.grad is None else 0.1 * weight.grad
        torch.testing.assert_close(run.model.get_parameter(name), weight - step, rtol=1e-9, atol=1e-11)


def test_with_maximum_likelihood_and_weight_1_it_is_minus_the_bound_per_token(tmp_path: Path) -> None:
    run = one_update(tmp_path, MaximumLikelihood(), reduction="token_mean", length_weight=0.0)
    model, data = tiny_model(), examples(COUNT, autoregressive=False)
    parts = by_hand(model, data)
    bound = sum(log_prob - kl.sum() for log_prob, kl, _ in parts) / sum(len(example.labels) for example in data)
    row = run.state.log_history[0]
    assert row["loss"] == pytest.approx(-bound.item(), rel=1e-6)
    assert row["elbo"] == pytest.approx(bound.item(), rel=1e-9)
    assert_same_update(run, model, -bound)


@pytest.mark.parametrize("k", [0.5, 3.0])
def test_the_convex_loss_takes_the_place_of_the_reconstruction(k: float, tmp_path: Path) -> None:
    """Shao et al. 2023, equation 29, with the KL per token, as the reconstruction is."""
    run = one_update(tmp_path, ConvexComposition(Exponential(k)), reduction="sequence_mean", length_weight=0.0)
    model, data = tiny_model(), examples(COUNT, autoregressive=False)
    total = torch.zeros((), dtype=torch.float64)
    for (log_prob, kl, _), example in zip(by_hand(model, data), data, strict=True):
        length = len(example.labels)
        total = total - torch.exp(k * log_prob / length) + kl.sum() / length
    assert run.state.log_history[0]["loss"] == pytest.approx(total.item() / COUNT, rel=1e-6)
    assert_same_update(run, model, total / COUNT)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
def test_weight_free_bits_budget_and_length_are_all_paid(reduction: str, tmp_path: Path) -> None:
    settings = {"kl_weight": 2.5, "free_bits": 0.02, "kl_budget": 0.3, "length_weight": 0.7, "reduction": reduction}
    run = one_update(tmp_path, MaximumLikelihood(), **settings)
    model, data = tiny_model(), examples(COUNT, autoregressive=False)
    total, length_loss = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    clamped = 0
    for (log_prob, kl, length_log_prob), example in zip(by_hand(model, data), data, strict=True):
        length, penalty = len(example.labels), torch.zeros((), dtype=torch.float64)
        for position in kl:
            nats = sum((number if number > 0.02 else torch.tensor(0.02)) for number in position)
            clamped += int(nats < 0.3) + int((position < 0.02).any())
            penalty = penalty + (nats if nats > 0.3 else 0.3)
        loss = (-log_prob + 2.5 * penalty) / length
        total = total + (loss * length if reduction == "token_mean" else loss)
        length_loss = length_loss - 0.7 * length_log_prob
    assert clamped > 0
    divisor = sum(len(example.labels) for example in data) if reduction == "token_mean" else COUNT
    loss = total / divisor + length_loss / COUNT
    # The length predictor works in float32.
    assert run.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)
    loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(run.model.get_parameter(name), weight - 0.1 * weight.grad, rtol=1e-6, atol=1e-8)


def test_the_schedule_follows_the_updates_and_is_logged(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        "latent_nat",
        model=tiny_model(),
        max_steps=4,
        kl_weight=WarmUp(2.0, until=0.5),
        kl_budget={"schedule": "linear", "start": 1.0, "end": 0.0, "begin": 0.5},
        learning_rate=1e-9,
        length_weight=0.0,
        reduction="token_mean",
        per_device_train_batch_size=24,
    )
    run.train()
    rows = [row for row in run.state.log_history if "loss" in row]
    parts = by_hand(tiny_model(), run.train_dataset)
    num_tokens = sum(len(example.labels) for example in run.train_dataset)
    reconstruction = -sum(log_prob.item() for log_prob, _, _ in parts) / num_tokens
    for row, weight, budget in zip(rows, (0.0, 1.0, 2.0, 2.0), (1.0, 1.0, 1.0, 0.5), strict=True):
        penalty = sum(kl.sum(1).clamp(min=budget).sum().item() for _, kl, _ in parts) / num_tokens
        assert row["loss"] == pytest.approx(reconstruction + weight * penalty, rel=1e-6)
    # Logged: the values that the update was made with.
    assert [row["kl_weight"] for row in rows] == pytest.approx([0.0, 1.0, 2.0, 2.0])
    assert [row["kl_budget"] for row in rows] == pytest.approx([1.0, 1.0, 1.0, 0.5])


def test_validation_pays_what_a_latent_costs_in_the_end(tmp_path: Path) -> None:
    """So that it can choose between checkpoints of a warm-up; it is the model's bound, at the posterior mean."""
    dataset = examples(20, autoregressive=False, seed=3)
    settings = {"kl_weight": WarmUp(1.0, until=1.0), "kl_budget": Linear(5.0, 0.0), "reduction": "token_mean"}
    found = [
        trainer(
            tmp_path,
            "latent_nat",
            model=tiny_model(),
            eval_dataset=dataset,
            per_device_eval_batch_tokens=budget,
            **settings,
        )
        for budget in (8, 4000)
    ]
    metrics = [run.evaluate() for run in found]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-9)
    for name in ("reconstruction", "kl", "elbo", "active_units", "kl_dim_0", "kl_dim_2"):
        assert math.isfinite(metrics[0][f"eval_{name}"])
    assert metrics[0]["eval_loss"] == pytest.approx(-metrics[0]["eval_elbo"], rel=1e-9)
    assert metrics[0]["eval_nll"] == pytest.approx(metrics[0]["eval_reconstruction"], rel=1e-9)
    kl = sum(kl.sum().item() for _, kl, _ in by_hand(tiny_model(), dataset))
    assert metrics[0]["eval_kl"] == pytest.approx(kl / sum(len(example.labels) for example in dataset), rel=1e-9)


def test_what_is_logged_over_micro_batches_is_that_of_the_whole_update(tmp_path: Path) -> None:
    rows = []
    for batch_size, steps in ((8, 1), (2, 4), (1, 8)):
        settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": steps}
        rows.append(one_update(tmp_path, MaximumLikelihood(), **settings).state.log_history[0])
    names = ["loss", "reconstruction", "kl", "elbo", "active_units", "kl_dim_0", "kl_dim_1", "kl_dim_2"]
    for row in rows[1:]:
        assert {name: row[name] for name in names} == pytest.approx({name: rows[0][name] for name in names}, rel=1e-6)
