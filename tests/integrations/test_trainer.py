"""The plain Trainer with our `compute_loss_func` is the definition per token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DataCollatorForSeq2Seq,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from sharpseq import BoxCox, ConvexComposition, Exponential, UserError
from sharpseq.declarations import Linear
from sharpseq.integrations.compute_loss_func import compute_loss_func
from sharpseq.objectives import Objective

pytest.importorskip("datasets")

from tiny_language_model import loss_by_definition, rows, tiny_llama, tiny_tokenizer

K = 0.5
CONVEX = ConvexComposition(Exponential(K), label_smoothing=0.1)
WINDOWS = [(8, 1), (2, 4), (1, 8)]


def definition(model: PreTrainedModel, examples: list[dict[str, list[int]]]) -> torch.Tensor:
    return loss_by_definition(
        model,
        examples,
        lambda g: torch.exp(K * g),
        label_smoothing=0.1,
        slope=lambda g: K * torch.exp(K * g),
    )


def tiny_gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 64, "initializer_range": 0.5}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropout, bos_token_id=None, eos_token_id=1)).double()


def tiny_t5() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 64}
    config = T5Config(**sizes, dropout_rate=0.0, initializer_factor=3.0, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config).double()


def trainer(
    folder: Path,
    model: PreTrainedModel,
    data: list[dict[str, list[int]]],
    *,
    objective: Objective = CONVEX,
    **settings: Any,
) -> Trainer:
    arguments = {
        "max_steps": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **settings,
    }
    return Trainer(
        model,
        TrainingArguments(str(folder), **arguments),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer(), model=model),
        compute_loss_func=compute_loss_func(objective, model=model),
    )


def changes(run: Trainer) -> dict[str, torch.Tensor]:
    before = {name: weight.detach().clone() for name, weight in run.model.state_dict().items()}
    run.train()
    return {name: weight - before[name] for name, weight in run.model.state_dict().items()}


@pytest.mark.parametrize(("size", "steps"), WINDOWS)
@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_an_update_of_a_causal_model_is_the_definition(make: Any, size: int, steps: int, tmp_path: Path) -> None:
    data = rows(8)
    run = trainer(tmp_path, make(), data, per_device_train_batch_size=size, gradient_accumulation_steps=steps)
    found, model = changes(run), make()
    loss = definition(model, data)
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], -0.1 * parameter.grad)
    assert run.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize(("size", "steps"), WINDOWS)
def test_an_update_of_a_seq2seq_model_is_the_definition(size: int, steps: int, tmp_path: Path) -> None:
    data = [
        {"input_ids": row["input_ids"], "labels": [label for label in row["labels"] if label > 0]} for row in rows(8)
    ]
    run = trainer(tmp_path, tiny_t5(), data, per_device_train_batch_size=size, gradient_accumulation_steps=steps)
    found, model = changes(run), tiny_t5()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in data:
        labels, before = torch.tensor([row["labels"]]), torch.tensor([[0, *row["labels"][:-1]]])
        logits = model(input_ids=torch.tensor([row["input_ids"]]), decoder_input_ids=before).logits
        log_probs = torch.log_softmax(logits[0], -1)
        g = log_probs.gather(1, labels.T).mean()
        smoothed = 0.9 * -torch.exp(K * g) - 0.1 * (K * torch.exp(K * g)).detach() * log_probs.mean(-1).mean()
        total, count = total + len(row["labels"]) * smoothed, count + len(row["labels"])
    (total / count).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], -0.1 * parameter.grad)


def test_labels_from_the_first_token_on_need_a_trainer_that_does_not_count_it(tmp_path: Path) -> None:
    data = rows(8, completion_only=False)
    with pytest.raises(ValueError, match=r"labels\[:, 0\] = -100.* or `model.loss_type = \"ForCausalLM\"` before"):
        trainer(tmp_path, tiny_gpt2(), data, per_device_train_batch_size=8).train()

    mended = tiny_gpt2()
    mended.loss_type = "ForCausalLM"
    for made in (mended, tiny_llama()):
        model = tiny_gpt2() if made is mended else tiny_llama()
        found = changes(trainer(tmp_path, made, data, per_device_train_batch_size=2, gradient_accumulation_steps=4))
        definition(model, data).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], -0.1 * parameter.grad)


def test_evaluation_is_the_mean_over_batches(tmp_path: Path) -> None:
    run = trainer(tmp_path, tiny_llama(), rows(8), per_device_eval_batch_size=4)
    halves = [definition(tiny_llama(), rows(8)[part]).item() for part in (slice(0, 4), slice(4, 8))]
    assert run.evaluate()["eval_loss"] == pytest.approx(sum(halves) / 2)


def test_masked_labels_give_a_zero_with_a_gradient() -> None:
    model = tiny_llama()
    ids = torch.tensor([[5, 6, 7]])
    with pytest.warns(UserWarning, match="a row has no label to learn from"):
        loss = compute_loss_func(CONVEX, model=model)(model(input_ids=ids), torch.full_like(ids, -100))
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_an_objective_that_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="is not told the step"):
        compute_loss_func(ConvexComposition(BoxCox(Linear(0, 1))), model=tiny_llama())


def test_what_the_function_cannot_score_is_refused() -> None:
    model = tiny_llama()
    loss = compute_loss_func(CONVEX, model=model)
    ids = torch.tensor([[5, 6, 7]])
    outputs = model(input_ids=ids)
    with pytest.raises(ValueError, match="`labels` must be in the batch"):
        loss(outputs, None)
    with pytest.raises(ValueError, match=r"`nn.DataParallel` is not supported"):
        loss(outputs, ids, num_items_in_batch=torch.tensor([[2], [2]]))
    outputs.logits.data.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        loss(outputs, ids)
