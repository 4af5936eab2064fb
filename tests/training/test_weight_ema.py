"""The moving average of weights: its formula, what it leaves alone, and what resumes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import examples, tiny_model, trainer, weights
from transformers import TrainerCallback

from sharpseq import UserError, load_recipe
from sharpseq.recipe import Recipe
from sharpseq.training import SequenceTrainingArguments


class Weights(TrainerCallback):
    """Records the model's own weights after every update."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(weights(kwargs["model"]))


@pytest.mark.parametrize(("batch_size", "accumulation"), [(8, 1), (2, 4)])
def test_it_is_the_average_of_the_weights_after_updates(batch_size: int, accumulation: int, tmp_path: Path) -> None:
    sizes = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation, "max_steps": 4}
    own, plain = Weights(), Weights()
    run = trainer(tmp_path / "ema", "ctc", callbacks=[own], ema_decay=0.35, **sizes)
    run.train()
    trainer(tmp_path / "plain", "ctc", callbacks=[plain], **sizes).train()
    expected = weights(tiny_model("ctc").double())
    for update, (one, other) in enumerate(zip(own.seen, plain.seen, strict=True), start=1):
        assert all(torch.equal(one[name], other[name]) for name in one), "training itself is left alone"
        decay = min(0.35, (1 + update) / (10 + update))
        expected = {name: decay * expected[name] + (1 - decay) * one[name] for name in one}
    torch.testing.assert_close(weights(run.model), expected)
    assert not torch.equal(run.model.embedding.weight, own.seen[-1]["embedding.weight"])


def saving(folder: Path, **settings: Any) -> Any:
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "ema_decay": 0.6, "optim": "adamw_torch"} | (
        settings
    )
    held_out = examples(6, autoregressive=False, seed=1)
    return trainer(folder, "ctc", dropout=0.1, eval_strategy="steps", eval_steps=2, eval_dataset=held_out, **settings)


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight, resumed = saving(tmp_path), saving(tmp_path)
    straight.train()
    resumed.train(str(tmp_path / "checkpoint-4"))
    once_more = saving(tmp_path)
    once_more.train(str(tmp_path / "checkpoint-6"))
    expected = weights(straight.model)
    for run in (resumed, once_more):
        found = weights(run.model)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_validation_and_the_best_checkpoint_are_of_the_average(tmp_path: Path) -> None:
    run = saving(
        tmp_path,
        load_best_model_at_end=True,
        metric_for_best_model="eval_nll",
        greater_is_better=False,
        learning_rate=0.3,
    )
    run.train()
    rows = {row["step"]: row["eval_nll"] for row in run.state.log_history if "eval_nll" in row}
    best = min(rows, key=rows.__getitem__)
    assert run.evaluate()["eval_nll"] == pytest.approx(rows[best], rel=1e-12)
    last = saving(tmp_path / "last", learning_rate=0.3)
    last.train()
    assert last.evaluate()["eval_nll"] == pytest.approx(rows[6], rel=1e-12)


def test_a_checkpoint_without_its_average_is_refused(tmp_path: Path) -> None:
    saving(tmp_path).train()
    (tmp_path / "checkpoint-4" / "ema.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"ema.safetensors is missing or broken"):
        saving(tmp_path).train(str(tmp_path / "checkpoint-4"))


def test_impossible_averages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`ema_decay` must be in \[0, 1\); got 1"):
        SequenceTrainingArguments(output_dir=str(tmp_path), ema_decay=1.0)
    content = load_recipe("quickstart").model_dump()
    content["stages"][0] |= {"average_checkpoints": 2, "training": {"ema_decay": 0.9}}
    with pytest.raises(ValueError, match="`average_checkpoints` does not go with `ema_decay`"):
        Recipe(**content)
