"""Training of a refinement network: the loss is equation 4, and nothing else of the model moves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_refiner import refiner_trainer, tiny_latent_model, tiny_refiner
from tiny_task import examples, weights

from sharpseq import UserError
from sharpseq.data import SequenceCollator
from sharpseq.models import LatentNat, LatentRefiner
from sharpseq.models.transformer import sinusoidal_positions
from sharpseq.training.gradient_matching import latent_noise, match_gradient, matching_target

KINDS = ["score", "energy"]
WINDOWS = [(8, 1), (2, 4), (1, 8)]


# Equation 4 by hand: one sequence at a time, no padding, every quantity from its definition.


def gradient_by_definition(refiner: LatentRefiner, z: torch.Tensor, encoded: Any) -> torch.Tensor:
    """Return the gradient of the energy at z, (1, T, D), in a graph that leads to the weights."""
    z = z.detach().requires_grad_()
    everything = torch.ones(z.shape[:2], dtype=torch.bool)
    states = refiner.latent_input(z)
    states = states + sinusoidal_positions(states.shape[1], states.shape[2], like=states)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        states = refiner.layers(states, everything, encoded.hidden, encoded.attention_mask)
    if refiner.parameterization == "score":
        return -refiner.head(states)
    energy = refiner.head(states[0].mean(0))[0]
    return torch.autograd.grad(energy, z, create_graph=True)[0]


def loss_by_definition(
    model: LatentNat, refiner: LatentRefiner, example: Any, *, noise: Any, delta_steps: int, moves: bool
) -> torch.Tensor:
    """Return ‖∇E‖² + 2 ∇E·(z̃ − z) of one example, a sum over its positions."""
    source, length = torch.tensor([example.input_ids]), torch.tensor([len(example.labels)])
    with torch.no_grad():
        encoded = model.encode(source, torch.ones_like(source))
        prior = model.prior(encoded, length)
        z = prior.mean + prior.log_std.exp() * noise
        if moves:
            with torch.enable_grad():
                gradient = gradient_by_definition(refiner, z, encoded)
            z = z - gradient.detach()
        proxy = z
        for _ in range(delta_steps):
            logits = model.decode_latent(encoded, proxy, length)
            logits[:, :, [0, 1, 3, 4]] = -math.inf  # end, padding, begin and mask are never written
            proxy = model.posterior(encoded, logits.argmax(-1), length).mean
    total = torch.zeros(())
    for ours, way in zip(gradient_by_definition(refiner, z, encoded)[0], (proxy - z)[0], strict=True):
        for g, d in zip(ours, way, strict=True):
            total = total + g**2 + 2 * g * d
    return total


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_update_is_the_gradient_of_equation_4(kind: str, reduction: str, tmp_path: Path) -> None:
    run = refiner_trainer(
        tmp_path,
        kind,
        count=8,
        delta_steps=3,
        update_probability=0.5,
        reduction=reduction,
        max_steps=1,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8,
    )
    run.train()

    model, refiner = tiny_latent_model(), tiny_refiner(kind)
    data = examples(8, autoregressive=False)
    noise = latent_noise(
        [example.index for example in data],
        [len(example.labels) for example in data],
        latent_size=3,
        seed=f"{run.args.seed} update 0",
    )
    moves = noise.uniform < 0.5
    assert 0 < moves.sum() < 8
    losses = [
        loss_by_definition(
            model,
            refiner,
            example,
            noise=noise.normal[None, row, : len(example.labels)].double(),
            delta_steps=3,
            moves=bool(moves[row]),
        )
        for row, example in enumerate(data)
    ]
    lengths = [len(example.labels) for example in data]
    if reduction == "token_mean":
        loss = sum(losses) / sum(lengths)
    else:
        loss = sum(each / length for each, length in zip(losses, lengths, strict=True)) / 8
    loss.backward()
    assert run.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter in refiner.named_parameters():
        if parameter.requires_grad:
            expected = parameter - 0.1 * parameter.grad
            torch.testing.assert_close(run.model.get_parameter(name), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_minimum_is_a_step_to_where_delta_inference_leads(kind: str) -> None:
    model, refiner = tiny_latent_model(), tiny_refiner(kind)
    batch = SequenceCollator(1)(examples(4, autoregressive=False))
    lengths = batch["labels"].ne(-100).sum(1).tolist()
    noise = latent_noise(range(4), lengths, latent_size=3, seed="fixed")
    target = matching_target(model, batch, noise, delta_steps=4)
    optimizer = torch.optim.Adam(refiner.parameters(), lr=1e-2)
    for _ in range(150):
        match = match_gradient(refiner(target.latent, target.lengths, target.encoded).gradient, target)
        optimizer.zero_grad()
        match.losses.mean().backward()
        optimizer.step()
    gradient = refiner(target.latent, target.lengths, target.encoded).gradient
    match = match_gradient(gradient, target)
    assert match.cosine.min() > 0.99
    assert (gradient + target.displacement).square().sum() < 0.02 * target.displacement.square().sum()
    # At the minimum −d of ‖g‖² + 2 g·d the loss is −‖d‖².
    loss = (match.losses * target.lengths).sum().item()
    assert loss == pytest.approx(-match.displacement_square.sum().item(), rel=0.02)


# The trainer


@pytest.mark.parametrize(("kind", "reduction"), [("score", "token_mean"), ("energy", "sequence_mean")])
def test_accumulation_gives_the_same_update(kind: str, reduction: str, tmp_path: Path) -> None:
    results, logs = [], []
    for batch_size, steps in WINDOWS:
        run = refiner_trainer(
            tmp_path,
            kind,
            reduction=reduction,
            max_steps=2,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        results.append(weights(run.model))
        names = ("loss", "gradient_square", "dot_product", "displacement_square", "cosine")
        logs.append([row[name] for row in run.state.log_history if "loss" in row for name in names])
    assert any(not torch.equal(weight, results[0][name]) for name, weight in weights(tiny_refiner(kind)).items())
    for other, log in zip(results[1:], logs[1:], strict=True):
        torch.testing.assert_close(other, results[0])
        assert log == pytest.approx(logs[0], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_translation_model_stays_what_it_was(kind: str, tmp_path: Path) -> None:
    model = tiny_latent_model()
    before = weights(model)
    run = refiner_trainer(tmp_path, kind, model=model, optim="adamw_torch", weight_decay=0.1)
    run.train()
    after = weights(model)
    assert {name for name in after if not name.startswith("refiner.")} == set(before)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    frozen = {name: weight for name, weight in model.named_parameters() if not name.startswith("refiner.")}
    assert all(weight.grad is None and not weight.requires_grad for weight in frozen.values())
    assert run.whole_model is model
    assert model.refiner is run.model
    assert model.config.refiner["trained_for"] == model.fingerprint()


def test_the_whole_model_is_saved_and_loaded_with_its_network(tmp_path: Path) -> None:
    run = refiner_trainer(tmp_path / "run", "energy")
    run.train()
    run.whole_model.save_pretrained(tmp_path / "model")
    loaded = LatentNat.from_pretrained(tmp_path / "model", dtype=torch.float64)
    torch.testing.assert_close(weights(loaded), weights(run.whole_model), rtol=0, atol=0)
    assert loaded.refiner is not None
    assert loaded.refiner.config.trained_for == loaded.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_validation_depends_neither_on_batches_nor_on_what_was_drawn_before(kind: str, tmp_path: Path) -> None:
    dataset = examples(20, autoregressive=False, seed=3)
    found = []
    for budget in (8, 50, 4000):
        run = refiner_trainer(tmp_path, kind, eval_dataset=dataset, per_device_eval_batch_tokens=budget)
        torch.manual_seed(budget)
        found.append(run.evaluate())
        assert run.evaluate() == found[-1]
    names = {"gradient_square", "dot_product", "displacement_square", "cosine", "loss"}
    assert {f"eval_{name}" for name in names} <= set(found[0])
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-9)
    token_mean = refiner_trainer(tmp_path, kind, eval_dataset=dataset, reduction="token_mean").evaluate()
    expected = token_mean["eval_gradient_square"] + 2 * token_mean["eval_dot_product"]
    assert token_mean["eval_loss"] == pytest.approx(expected)


def test_validation_starts_from_the_prior_whatever_the_network(tmp_path: Path) -> None:
    dataset = examples(20, autoregressive=False, seed=3)
    found = [refiner_trainer(tmp_path, kind, eval_dataset=dataset).evaluate() for kind in KINDS]
    assert found[0]["eval_displacement_square"] == found[1]["eval_displacement_square"]
    assert found[0]["eval_gradient_square"] != found[1]["eval_gradient_square"]


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_every_weight_learns_behind_an_update_of_the_latent(kind: str, tmp_path: Path) -> None:
    """What autocast has cast without gradients, in the update, once was used again for the loss."""
    model, refiner = tiny_latent_model().float(), tiny_refiner(kind).float()
    run = refiner_trainer(
        tmp_path, kind, model=model, refiner=refiner, update_probability=1.0, bf16=True, max_steps=1, learning_rate=0.1
    )
    before = weights(refiner)
    run.train()
    trained = {name for name, weight in refiner.named_parameters() if weight.requires_grad}
    unchanged = {name for name in trained if torch.equal(weights(refiner)[name], before[name])}
    assert not unchanged, unchanged


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch", "dropout": 0.2}
    straight = refiner_trainer(tmp_path, "energy", **settings)
    straight.train()
    broken = refiner_trainer(tmp_path, "energy", **settings)
    broken.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    torch.testing.assert_close(weights(broken.model), weights(straight.model), rtol=0, atol=0)
    saved = {path.name for path in (tmp_path / "checkpoint-4").iterdir()}
    assert "model.safetensors" in saved
    size = (tmp_path / "checkpoint-4" / "model.safetensors").stat().st_size
    assert size < 1.1 * sum(weight.nbytes for weight in straight.model.state_dict().values()) + 4000


def test_evaluators_are_given_the_translation_model(tmp_path: Path) -> None:
    seen: list[Any] = []
    run = refiner_trainer(tmp_path, "score", evaluators=[lambda model: seen.append(model) or {"mine": 1.0}])
    assert run.evaluate()["eval_mine"] == 1.0
    assert seen == [run.whole_model]


def test_a_loss_that_is_not_finite_names_the_examples(tmp_path: Path) -> None:
    refiner = tiny_refiner("score")
    with torch.no_grad():
        refiner.head.bias.fill_(math.inf)
    with pytest.raises(UserError, match=r"not finite at step 1, in training examples \["):
        refiner_trainer(tmp_path, "score", refiner=refiner, update_probability=0.0).train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta_steps": 0}, "`delta_steps` must be at least 1; got 0"),
        ({"update_probability": 1.5}, r"`update_probability` must be in \[0, 1\]; got 1.5"),
        ({"update_probability": math.nan}, r"`update_probability` must be in \[0, 1\]; got nan"),
        ({"divide_by_mean_weight": True}, "`divide_by_mean_weight` must be false"),
    ],
)
def test_impossible_arguments_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        refiner_trainer(tmp_path, "score", **settings)


def test_a_network_of_another_model_is_refused(tmp_path: Path) -> None:
    run = refiner_trainer(tmp_path, "score")
    other = tiny_latent_model()
    with torch.no_grad():
        other.latent_input.weight.add_(1)
    with pytest.raises(ValueError, match="trained for another model"):
        refiner_trainer(tmp_path, "score", model=other, refiner=run.model)
    with pytest.raises(ValueError, match="`latent_size` 3, as the model has; got 2"):
        refiner_trainer(tmp_path, "score", refiner=tiny_refiner("score", latent_size=2))


# Noise


def test_noise_is_standard_normal_and_the_example_s_own() -> None:
    noise = latent_noise(range(500), [20] * 500, latent_size=4, seed="1 update 0")
    assert noise.normal.mean().abs() < 0.02
    assert noise.normal.std() == pytest.approx(1, abs=0.02)
    assert noise.uniform.mean() == pytest.approx(0.5, abs=0.05)
    assert 0 <= noise.uniform.min() < noise.uniform.max() < 1
    assert len(noise.normal[:, 0, 0].unique()) == 500
    correlation = torch.corrcoef(torch.stack([noise.normal[:-1, 0, 0], noise.normal[1:, 0, 0]]))[0, 1]
    assert correlation.abs() < 0.15
    later = latent_noise(range(500), [20] * 500, latent_size=4, seed="1 update 1")
    assert (later.normal != noise.normal).all()


def test_noise_ends_with_its_sequence() -> None:
    noise = latent_noise([3, 9, 4], [2, 0, 5], latent_size=2, seed="s").normal
    assert noise.shape == (3, 5, 2)
    assert (noise[0, 2:] == 0).all()
    assert (noise[1] == 0).all()
    assert (noise[0, :2] != 0).all()
