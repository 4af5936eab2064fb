"""Adversarial comp-sum losses: the bound that they promise, the search for the worst move, and whole models."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_pretrained import write_llama, write_pretrained_recipe
from tiny_recipe import write_recipe
from tiny_task import examples, tiny_model, trainer, weights
from transformers import BartConfig, BartForConditionalGeneration, LlamaConfig, LlamaForCausalLM, T5Config
from transformers import T5ForConditionalGeneration as T5Model

from sharpseq import UserError, load_recipe, run_recipe
from sharpseq.objectives.comp_sum import comp_sum_losses
from sharpseq.runs.checks import check_model
from sharpseq.scoring import PositionScores
from sharpseq.training import AdversarialCompSum, Step, collator_for
from sharpseq.training.adversarial_comp_sum import margin_change
from sharpseq.training.embedding_adversary import moved_embeddings, worst_moves

STEP = Step(progress=0.0, update=0, seed=0, is_training=True)
IDS = {"pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}


def model_of(kind: str, dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    if kind == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=15, **sizes, **IDS, attention_dropout=dropout)).double()
    if kind == "bart":
        sides = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
        widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        config = BartConfig(
            vocab_size=15, **sides, **widths, **IDS, decoder_start_token_id=0, dropout=dropout, init_std=0.3
        )
        return BartForConditionalGeneration(config).double()
    if kind == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        return T5Model(T5Config(vocab_size=15, **sizes, **IDS, decoder_start_token_id=1, dropout_rate=dropout)).double()
    return tiny_model(kind, dropout=dropout).double()


def batch_of(model: Any, count: int = 4) -> Any:
    return collator_for(model)(examples(count, autoregressive=not hasattr(model, "scores_labels")))


# The loss of a point, as in the paper


@pytest.mark.parametrize("tau", [0.4, 1.0, 1.5, 2.0])
def test_it_bounds_the_worst_margin_loss_of_linear_models(tau: float) -> None:
    """With ν = √(V − 1) and the exact supremum γ·σ_max of a linear model, whatever the move."""
    torch.manual_seed(0)
    vocabulary, width, radius = 4, 5, 0.3
    tightness = 0.0
    for _ in range(50):
        weight = torch.randn(vocabulary, width, dtype=torch.float64)
        x, y = torch.randn(width, dtype=torch.float64), torch.tensor([[2]])
        clean = PositionScores(
            torch.ones(1, 1, dtype=torch.bool), hidden_states=(weight @ x)[None, None], head=lambda z: z
        )
        margins = (weight[2] - weight)[[0, 1, 3]]
        worst = torch.linalg.svd(margins).Vh[0] * radius
        change = margin_change(clean, y)((weight @ (x + worst))[None], torch.tensor([0]))
        torch.testing.assert_close(change[0], radius * torch.linalg.matrix_norm(margins, 2))
        log_prob = (weight @ x).log_softmax(0)[2]
        loss = comp_sum_losses(log_prob, power=tau - 1) + math.sqrt(vocabulary - 1) * change[0]
        for _ in range(200):
            move = torch.nn.functional.normalize(torch.randn(width, dtype=torch.float64), dim=0) * radius
            v = (1 - margins @ (x + move)).clamp(0, 1).sum()
            robust = torch.log1p(v) if tau == 1 else ((1 + v) ** (1 - tau) - 1) / (1 - tau)
            assert robust <= loss
            tightness = max(tightness, float(robust / loss))
    assert tightness > 0.2


def test_the_search_finds_the_worst_move_of_a_linear_model() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(5, 6, dtype=torch.float64)

    def damage(moves: torch.Tensor) -> torch.Tensor:
        return (moves @ matrix.T).norm(dim=-1).sum()

    start = torch.randn(2, 3, 6, dtype=torch.float64)
    start[0, 1] = 0
    moves = worst_moves(damage, start, radius=0.5, steps=300, step_size=1.0)
    found = (moves @ matrix.T).norm(dim=-1)
    expected = torch.full((2, 3), 0.5 * float(torch.linalg.matrix_norm(matrix, 2)), dtype=torch.float64)
    expected[0, 1] = 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(moves.norm(dim=-1).amax(), torch.tensor(0.5, dtype=torch.float64))


# Whole models

KINDS = ["autoregressive", "vanilla_nat", "cmlm", "latent_nat", "llama", "bart", "t5"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_penalty_or_a_move_it_is_the_comp_sum_loss(kind: str) -> None:
    """With dropout: all passes draw the same, or the margins would move by themselves."""
    model = model_of(kind, dropout=0.3).train()
    batch = batch_of(model)
    results = []
    for settings in ({"nu": 0.0}, {"radius": 0.0, "nu": 5.0}, {"radius": 1e-9, "nu": 5.0}, {"nu": 5.0, "radius": 0.3}):
        torch.manual_seed(1)
        results.append(AdversarialCompSum(tau=0.5, **settings).loss()(model, batch, STEP).losses.detach())
    torch.manual_seed(1)
    plain = AdversarialCompSum(tau=0.5).loss().scoring(model, batch, STEP).losses.detach()
    for result in results[:3]:
        torch.testing.assert_close(result, plain, rtol=1e-5, atol=1e-6)
    assert (results[3] > plain + 1e-4).all()


def test_dropout_goes_on_after_the_loss() -> None:
    model = model_of("autoregressive", dropout=0.3).train()
    batch, loss = batch_of(model), AdversarialCompSum().loss()
    first, second = (loss(model, batch, STEP).losses for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["autoregressive", "vanilla_nat", "llama"])
def test_the_gradient_is_that_of_finite_differences(kind: str) -> None:
    """With no search, the move is the same for all weights, and the loss is a smooth function of them."""
    model = model_of(kind).eval()
    with torch.no_grad():  # embeddings set the length of moves, which has no gradient: keep them out
        directions = {
            name: torch.zeros_like(weight) if "emb" in name or "shared" in name else torch.randn_like(weight)
            for name, weight in model.named_parameters()
        }
    loss, batch = AdversarialCompSum(tau=1.5, steps=0, radius=0.2).loss(), batch_of(model)

    def total() -> torch.Tensor:
        return loss(model, batch, STEP).losses.sum()

    total().backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    slope = sum((gradient * directions[name]).sum().item() for name, gradient in found.items())
    # Llama computes norms in float32; the others have kinks that a longer step would cross.
    step = 1e-4 if kind == "llama" else 1e-6
    ends = []
    for shift in (step, -2 * step):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.add_(directions[name], alpha=shift)
        ends.append(total().item())
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_real_source_tokens_move(kind: str) -> None:
    model = model_of(kind)
    batch = batch_of(model)
    loss = AdversarialCompSum().loss()
    start = loss._start(model, batch, STEP)
    for row, example in enumerate(examples(4, autoregressive=True)):
        letters = len(example.input_ids) - 1
        assert (start[row, :letters].norm(dim=-1) > 0).all()
        assert (start[row, letters:] == 0).all()


def test_moves_reach_the_encoder_and_not_the_decoder() -> None:
    model = model_of("bart").eval()
    batch = batch_of(model)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    moves = torch.zeros(*batch["input_ids"].shape, 16, dtype=torch.float64)
    moves[1, 0, 3] = 0.5
    with torch.no_grad():
        plain = model(**inputs).logits
        with moved_embeddings(model, batch["input_ids"], moves):
            moved = model(**inputs).logits
        again = model(**inputs).logits
    assert torch.equal(plain, again)
    changed = (plain - moved).abs().amax((1, 2)) > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_steps_do_more_damage_than_a_random_direction() -> None:
    model = model_of("autoregressive").eval()
    batch = batch_of(model)
    changes = [
        AdversarialCompSum(steps=steps).loss()(model, batch, STEP).statistics["margin_change"].values.sum()
        for steps in (0, 3)
    ]
    assert changes[1] > 1.2 * changes[0]


@pytest.mark.parametrize("kind", ["autoregressive", "vanilla_nat"])
def test_accumulation_changes_nothing(kind: str, tmp_path: Path) -> None:
    found = []
    for size, steps in ((8, 1), (2, 4)):
        run = trainer(
            tmp_path / str(size),
            kind,
            objective=None,
            loss=AdversarialCompSum().loss(),
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        found.append(weights(run.model))
        assert run.state.log_history[0]["margin_change"] > 0
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=1e-7, atol=1e-9)


def test_validation_without_gradients_gives_the_same_number(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        "autoregressive",
        objective=None,
        loss=AdversarialCompSum().loss(),
        eval_dataset=examples(4, autoregressive=True),
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
    )
    run.train()
    figures = [run.evaluate() for _ in range(2)]
    assert figures[0]["eval_margin_change"] == figures[1]["eval_margin_change"] > 0
    batch = collator_for(run.model)(examples(4, autoregressive=True))
    step = replace(STEP, is_training=False, progress=1.0, seed=run.args.seed)
    output = run.loss(run.model.eval(), batch, step)
    expected = output.losses.mean().item()
    assert figures[0]["eval_loss"] == pytest.approx(expected, rel=1e-6)


def test_a_model_that_embeds_in_another_way_is_refused() -> None:
    model = model_of("llama")
    ids = torch.tensor([[5, 6]])
    with (
        pytest.raises(ValueError, match="LlamaForCausalLM embeds its sources in an unknown way"),
        moved_embeddings(model, ids, torch.zeros(1, 2, 16)),
    ):
        model(inputs_embeds=torch.zeros(1, 2, 16, dtype=torch.float64))


def test_recipes_run_and_ctc_is_refused(tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, write_llama(tmp_path / "llama"))
    content = yaml.safe_load(recipe.read_text())
    content["stages"] = content["stages"][:1]
    content["stages"][0] |= {"objective": {"name": "adversarial_comp_sum", "steps": 1}}
    content["stages"][0]["training"] |= {"max_steps": 2, "eval_steps": 2}
    recipe.write_text(yaml.safe_dump(content))
    result = run_recipe(load_recipe(recipe), tmp_path / "run", say=lambda line: None)
    assert result is not None
    assert "margin_change" in (result.folder / "metrics.jsonl").read_text()
    path = write_recipe(tmp_path, "ctc")
    path.write_text(
        path.read_text().replace("{name: maximum_likelihood, label_smoothing: 0.1}", "adversarial_comp_sum")
    )
    with pytest.raises(UserError, match="adversarial_comp_sum: the loss reads the log-probability of each token"):
        check_model(load_recipe(path))
