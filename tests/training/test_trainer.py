import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tiny_task import examples, tiny_model, trainer, weights

from sharpseq import (
    BoxCox,
    ConvexComposition,
    Exponential,
    MaximumLikelihood,
    SequenceTrainer,
    SequenceTrainingArguments,
    UserError,
)
from sharpseq.data import SequenceCollator, TokenBudgetBatchSampler
from sharpseq.declarations import Linear, Steps
from sharpseq.models import MODELS
from sharpseq.objectives import ExpectedNgrams
from sharpseq.scoring import DiagonalGaussian, SequenceScores, score_model
from sharpseq.training.batches import for_every_process
from sharpseq.training.reduction import Window, reduce_losses

WINDOWS = [(8, 1), (2, 4), (1, 8)]
# These mask at random, so how a window is cut into batches changes what they see.
DETERMINISTIC = [name for name in MODELS if name not in ("cmlm", "masked_diffusion")]


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
@pytest.mark.parametrize("family", DETERMINISTIC)
def test_accumulation_gives_the_same_update(
    family: str, reduction: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nor may a latent be drawn at random.
    monkeypatch.setattr(DiagonalGaussian, "sample", lambda gaussian: gaussian.mean + gaussian.log_std.exp())
    results, logs = [], []
    for batch_size, steps in WINDOWS:
        run = trainer(
            tmp_path,
            family,
            objective=ConvexComposition(Exponential(2.0)),
            reduction=reduction,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        results.append(weights(run.model))
        logs.append([row["loss"] for row in run.state.log_history if "loss" in row])
    start = weights(tiny_model(family).double())
    assert any(not torch.equal(start[name], results[0][name]) for name in start)
    for other, log in zip(results[1:], logs[1:], strict=True):
        torch.testing.assert_close(other, results[0])
        assert log == pytest.approx(logs[0])


@pytest.mark.parametrize("family", ["ctc", "dag"])
def test_expected_ngrams_accumulate_as_other_objectives_do(family: str, tmp_path: Path) -> None:
    results = []
    for batch_size, steps in WINDOWS:
        run = trainer(
            tmp_path,
            family,
            objective=ExpectedNgrams(),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        results.append(weights(run.model))
        assert "weight_mean" not in run.state.log_history[0]
    start = weights(tiny_model(family).double())
    assert any(not torch.equal(start[name], results[0][name]) for name in start)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
def test_division_by_the_mean_weight_spans_the_accumulation_window(reduction: str, tmp_path: Path) -> None:
    results = []
    for batch_size, steps in WINDOWS:
        run = trainer(
            tmp_path,
            "ctc",
            objective=ConvexComposition(Exponential(3.0)),
            reduction=reduction,
            divide_by_mean_weight=True,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        results.append(weights(run.model))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_division_by_the_mean_weight_is_the_definition(tmp_path: Path) -> None:
    """One update of plain SGD against the formula, from the gradient of a hand-made loss."""
    run = trainer(
        tmp_path,
        "vanilla_nat",
        count=8,
        objective=ConvexComposition(Exponential(3.0)),
        divide_by_mean_weight=True,
        max_steps=1,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8,
        length_weight=0.5,
    )
    run.train()

    model = tiny_model("vanilla_nat").double().train()
    batch = SequenceCollator(1)(examples(8, autoregressive=False))
    del batch["example_ids"]
    scores = score_model(model, batch)
    g = scores.log_prob / scores.num_tokens
    weight = (3 * (3 * g).exp()).detach().mean()
    loss = -(3 * g).exp().mean() / weight + 0.5 * scores.regularizers["length"].mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(run.model.get_parameter(name), parameter - 0.1 * parameter.grad)


@pytest.mark.parametrize("family", MODELS)
def test_overfits_a_batch_and_logs_weights_and_speed(family: str, tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        family,
        count=6,
        max_steps=300,
        optim="adamw_torch",
        learning_rate=1e-2,
        per_device_train_batch_tokens=200,
        logging_steps=50,
        eval_dataset=examples(6, autoregressive=family == "autoregressive"),
    )
    run.train()
    assert run.evaluate()["eval_nll"] < 0.3
    row = next(row for row in run.state.log_history if "loss" in row)
    assert row["weight_mean"] == row["weight_min"] == row["weight_max"] == pytest.approx(1.0)
    assert row["tokens_per_second"] > 0


def test_logged_weights_are_the_derivative_of_the_transform(tmp_path: Path) -> None:
    objective = ConvexComposition(Exponential(2.0))
    run = trainer(tmp_path, "ctc", objective=objective, per_device_train_batch_tokens=100, max_steps=1)
    run.train()
    row = run.state.log_history[0]
    model = tiny_model("ctc").double()
    sampler = TokenBudgetBatchSampler(
        [len(e.input_ids) for e in run.train_dataset],
        [len(e.labels) for e in run.train_dataset],
        batch_tokens=100,
        seed=run.args.seed,
    )
    batch = SequenceCollator(1)([run.train_dataset[i] for i in next(iter(sampler))])
    del batch["example_ids"]
    scores = score_model(model, batch)
    expected = 2 * (2 * scores.log_prob / scores.num_tokens).exp()
    assert row["weight_mean"] == pytest.approx(expected.mean().item())
    assert row["weight_min"] == pytest.approx(expected.min().item())
    assert row["weight_max"] == pytest.approx(expected.max().item())


def test_a_schedule_follows_the_updates_and_is_logged(tmp_path: Path) -> None:
    objective = ConvexComposition(BoxCox(Linear(0, 4)), label_smoothing=Steps([0.0, 0.1], at=[0.5]))
    run = trainer(tmp_path, "ctc", objective=objective, max_steps=4, logging_steps=1)
    run.train()
    rows = [row for row in run.state.log_history if "loss" in row]
    assert [row["transform.k"] for row in rows] == [0, 1, 2, 3]
    assert [row["label_smoothing"] for row in rows] == [0.0, 0.0, 0.1, 0.1]


def test_epochs_shuffle_differently_and_reproducibly(tmp_path: Path) -> None:
    orders = []
    for _ in range(2):
        run = trainer(tmp_path, "ctc", per_device_train_batch_tokens=30, num_train_epochs=2, max_steps=-1)
        collate = run.data_collator
        seen: list[int] = []
        run.data_collator = lambda batch, seen=seen, collate=collate: (
            seen.extend(example.index for example in batch) or collate(batch)
        )
        run.train()
        orders.append(seen)
    assert orders[0] == orders[1]
    first, second = orders[0][:24], orders[0][24:]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


def test_non_finite_loss_stops_the_run_and_names_the_examples(tmp_path: Path) -> None:
    def poisoned(scores: SequenceScores) -> torch.Tensor:
        loss = -scores.normalized_log_prob()
        return torch.where(scores.num_tokens == 6, torch.nan, loss)

    run = trainer(tmp_path, "ctc", objective=poisoned, max_steps=10, per_device_train_batch_tokens=400)
    before = weights(run.model)
    longest = [example.index for example in run.train_dataset if len(example.labels) == 6]
    with pytest.raises(UserError, match=r"not finite at step 1, in training examples \[") as failure:
        run.train()
    assert all(str(index) in str(failure.value) for index in longest[:3])
    torch.testing.assert_close(weights(run.model), before, rtol=0, atol=0)


def test_evaluation_counts_infeasible_targets_and_leaves_them_out(tmp_path: Path) -> None:
    from sharpseq.data import EncodedExample

    feasible = examples(5, autoregressive=False)
    infeasible = EncodedExample(5, [5, 0], [6, 6, 6])
    run = trainer(tmp_path, "ctc", eval_dataset=[*feasible, infeasible])
    metrics = run.evaluate()
    assert metrics["eval_infeasible"] == 1
    alone = trainer(tmp_path, "ctc", eval_dataset=feasible).evaluate()
    assert "eval_infeasible" not in alone
    assert metrics["eval_nll"] == pytest.approx(alone["eval_nll"])
    assert metrics["eval_loss"] == pytest.approx(alone["eval_loss"])


@pytest.mark.parametrize("family", ["autoregressive", "vanilla_nat"])
def test_evaluation_loss_does_not_depend_on_the_batches(family: str, tmp_path: Path) -> None:
    dataset = examples(20, autoregressive=family == "autoregressive", seed=3)
    results = [
        trainer(tmp_path, family, eval_dataset=dataset, per_device_eval_batch_tokens=budget).evaluate()
        for budget in (8, 50, 4000)
    ]
    assert results[0]["eval_loss"] == pytest.approx(results[1]["eval_loss"]) == pytest.approx(results[2]["eval_loss"])


def test_reduction_is_the_formula() -> None:
    losses, tokens = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([5, 3, 0])
    window = Window(num_sequences=6, num_tokens=16)
    assert reduce_losses(losses, tokens, reduction="sequence_mean", window=window) == 9 / 6
    assert reduce_losses(losses, tokens, reduction="token_mean", window=window) == 11 / 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": "mean"}, "sequence_mean, token_mean"),
        ({"per_device_train_batch_tokens": 0}, "got 0"),
        ({"length_weight": -1}, "got -1"),
    ],
)
def test_impossible_arguments_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, "ctc", **settings)


def test_a_validation_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    subject = trainer(tmp_path, "ctc", eval_dataset=examples(4, autoregressive=False))
    with torch.no_grad():
        next(subject.model.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match=r"the validation loss is not finite after step 0: .* lower the learning rate"):
        subject.evaluate()


@pytest.mark.parametrize(
    ("metric", "nll", "expected"),
    [(0.4, 9.0, 2), (0.2, 0.1, 1), (0.3, 0.9, 2), (0.3, 1.0, 2), (0.3, 1.1, 1)],
    ids=["better", "worse", "equal with lower NLL", "all equal: the later", "equal with higher NLL"],
)
def test_of_equal_metrics_the_lower_nll_and_then_the_later_checkpoint_is_best(
    metric: float, nll: float, expected: int, tmp_path: Path
) -> None:
    subject = trainer(tmp_path, "ctc", metric_for_best_model="bleu", save_strategy="steps")
    for step, figures in ((1, (0.3, 1.0)), (2, (metric, nll))):
        subject.state.global_step = step
        named = {"eval_bleu": figures[0], "eval_nll": figures[1]}
        subject._determine_best_metric(named, trial=None)
        subject.state.log_history.append({**named, "step": step})
    assert subject.state.best_global_step == expected


@pytest.mark.parametrize(("count", "processes", "expected"), [(1, 2, 2), (2, 3, 6), (3, 3, 3), (5, 2, 5), (0, 2, 0)])
def test_every_process_gets_an_example_and_all_count_alike(count: int, processes: int, expected: int) -> None:
    arguments = cast(SequenceTrainingArguments, SimpleNamespace(world_size=processes))
    repeated = for_every_process(list(range(count)), arguments)
    assert len(repeated) == expected
    assert len({repeated.count(index) for index in range(count)}) <= 1


def test_rows_of_hugging_face_train_and_validate_by_their_number(tmp_path: Path) -> None:
    """Dictionaries in, a collator of transformers, `per_device_eval_batch_size` rows a batch."""
    rows = [{"input_ids": [5, 6, 0], "labels": [7, 8, 0]}, {"input_ids": [9, 0], "labels": [6, 0]}] * 5
    model = tiny_model("autoregressive")
    sizes: list[int] = []

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        sizes.append(len(batch))
        width = max(len(row["labels"]) for row in batch)
        labels = torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in batch])
        sources = torch.tensor([row["input_ids"] + [1] * (3 - len(row["input_ids"])) for row in batch])
        start = torch.cat([torch.zeros(len(batch), 1, dtype=torch.long), labels[:, :-1].clamp(min=0)], dim=1)
        mask = (sources != 1).long()
        return {"input_ids": sources, "attention_mask": mask, "labels": labels, "decoder_input_ids": start}

    arguments = SequenceTrainingArguments(
        str(tmp_path), per_device_eval_batch_size=4, max_steps=2, report_to="none", use_cpu=True, save_strategy="no"
    )
    run = SequenceTrainer(
        model, arguments, objective=MaximumLikelihood(), train_dataset=rows, eval_dataset=rows, data_collator=collate
    )
    found = run.evaluate()
    assert sizes == [4, 4, 2]
    run.train()
    assert run.evaluate()["eval_nll"] < found["eval_nll"]


def test_what_could_not_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`compute_metrics` reads logits, which are never held here"):
        trainer(tmp_path, "ctc", compute_metrics=lambda prediction: {})
    with pytest.raises(ValueError, match="give `objective` or `loss`, one of them"):
        trainer(tmp_path, "ctc", objective=None)
