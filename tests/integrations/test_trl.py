"""TRL's trainer under our objective is the definition, however its batches are laid out."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_language_model import SETTINGS, dataset, loss_by_definition, rows, tiny_llama, tiny_tokenizer

from sharpseq import BoxCox, ConvexComposition, Exponential, MaximumLikelihood, Power, UserError
from sharpseq.declarations import Linear
from sharpseq.scoring import SequenceScores

pytest.importorskip("trl")

from datasets import Dataset
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import HfArgumentParser, MixtralConfig, MixtralForCausalLM, PreTrainedModel, TrainingArguments

from sharpseq.integrations import trl_training as integration
from sharpseq.integrations.trl import SharpSFTConfig, SharpSFTTrainer, TrlRows
from sharpseq.integrations.trl_targets import kept_part, report_targets

K = 0.5
SMOOTHED = {"transform": {"name": "exponential", "k": K}, "label_smoothing": 0.1}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding-free": {"padding_free": True, "max_length": None},
    "packed": {"packing": True, "max_length": 30},
}


def config(folder: Path, **settings: Any) -> SharpSFTConfig:
    return SharpSFTConfig(
        **{
            **SETTINGS,
            "output_dir": str(folder),
            "objective_kwargs": {"transform": {"name": "exponential", "k": K}},
            "max_steps": 1,
            "max_grad_norm": 0.0,
            "per_device_train_batch_size": 8,
            **settings,
        }
    )


def trainer(folder: Path, *, model: Any = None, data: Dataset | None = None, **settings: Any) -> SharpSFTTrainer:
    names = ("objective", "peft_config", "eval_dataset", "compute_metrics", "compute_loss_func", "args")
    own = {name: settings.pop(name) for name in names if name in settings}
    return SharpSFTTrainer(
        tiny_llama() if model is None else model,
        own.pop("args", None) or config(folder, **settings),
        train_dataset=dataset(8) if data is None else data,
        processing_class=tiny_tokenizer(),
        **own,
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def updates(run: SharpSFTTrainer) -> dict[str, torch.Tensor]:
    """Train, and return what was added to each weight."""
    before = weights(run.model)
    run.train()
    return {name: after - before[name] for name, after in weights(run.model).items()}


def gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("divide_by_mean_weight", [False, True])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_update_is_the_definition(layout: str, reduction: str, divide_by_mean_weight: bool, tmp_path: Path) -> None:
    settings = {"reduction": reduction, "divide_by_mean_weight": divide_by_mean_weight, **LAYOUTS[layout]}
    run = trainer(tmp_path, objective_kwargs=SMOOTHED, **settings)
    changes = updates(run)
    model = tiny_llama()
    loss = loss_by_definition(
        model,
        rows(8),
        lambda g: torch.exp(K * g),
        reduction=reduction,
        label_smoothing=0.1,
        slope=lambda g: K * torch.exp(K * g),
    )
    if divide_by_mean_weight:
        loss = loss / loss_by_definition(model, rows(8), lambda g: -K * torch.exp(K * g), reduction=reduction).detach()
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(changes[name], -0.1 * gradient)
    assert run.state.log_history[0]["loss"] == pytest.approx(loss.item())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_accumulation_gives_the_same_update(layout: str, tmp_path: Path) -> None:
    results = []
    for size, steps in [(8, 1), (2, 4), (1, 8)]:
        # Every layout sees all rows in one window, packed or not.
        many = dict(LAYOUTS[layout])
        if layout == "packed":
            many["max_length"] = 12
        changes = updates(
            trainer(
                tmp_path,
                data=dataset(8),
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
                divide_by_mean_weight=True,
                reduction="sequence_mean",
                num_train_epochs=1,
                max_steps=-1,
                **many,
            )
        )
        results.append(changes)
    assert any(change.abs().max() > 1e-4 for change in results[0].values())
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


# Adapters


def adapted(target_modules: list[str]) -> Any:
    torch.manual_seed(1)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=target_modules, init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(tiny_llama(), lora)


@pytest.mark.parametrize("target_modules", [["q_proj", "down_proj"], ["lm_head"], ["v_proj", "lm_head"]], ids=str)
def test_adapters_get_the_gradient_of_the_definition(target_modules: list[str], tmp_path: Path) -> None:
    changes = updates(trainer(tmp_path, model=adapted(target_modules), **LAYOUTS["packed"]))
    model = adapted(target_modules)
    expected = gradients(model, loss_by_definition(model, rows(8), lambda g: torch.exp(K * g)))
    # PEFT calls the parameter of an adapter `lora_A.default.weight` in both.
    assert any("lora" in name for name, gradient in expected.items() if gradient is not None)
    for name, gradient in expected.items():
        if gradient is None:
            assert not changes[name].any(), f"{name} is frozen"
        else:
            assert gradient.any()
            torch.testing.assert_close(changes[name], -0.1 * gradient)


@pytest.mark.parametrize("target_modules", [["q_proj", "down_proj"], ["lm_head"]], ids=str)
def test_merged_weights_score_as_their_adapters_do(target_modules: list[str], tmp_path: Path) -> None:
    run = trainer(tmp_path, model=adapted(target_modules), eval_dataset=dataset(5, seed=3), max_steps=2)
    run.train()
    with_adapters = run.evaluate()
    merged = trainer(tmp_path, model=run.model.merge_and_unload(), eval_dataset=dataset(5, seed=3)).evaluate()
    for name in ("eval_loss", "eval_nll", "eval_entropy"):
        assert merged[name] == pytest.approx(with_adapters[name], rel=1e-9)


def test_a_configuration_with_an_adapter_on_the_head_is_taken(tmp_path: Path) -> None:
    lora = LoraConfig(r=2, target_modules=["lm_head", "q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    changes = updates(trainer(tmp_path, peft_config=lora))
    changed = {name for name, change in changes.items() if change.any()}
    assert any("lm_head.lora_A" in name for name in changed)
    assert all("lora" in name for name in changed)


@pytest.mark.parametrize("target_modules", ["all-linear", ["q_proj", "lm_head"]], ids=str)
def test_float32_adapters_on_a_frozen_half_precision_model_with_checkpoints_learn(
    target_modules: Any, tmp_path: Path
) -> None:
    """The shape of QLoRA: what is below the adapters is frozen and coarse."""
    lora = LoraConfig(r=4, target_modules=target_modules, task_type="CAUSAL_LM")
    run = trainer(
        tmp_path,
        model=tiny_llama().to(torch.bfloat16),
        peft_config=lora,
        gradient_checkpointing=True,
        bf16=True,
        optim="adamw_torch",
        learning_rate=1e-2,
        max_steps=8,
        eval_dataset=dataset(8),
    )
    trainable = {name: weight for name, weight in run.model.named_parameters() if weight.requires_grad}
    assert all(weight.dtype == torch.float32 and "lora" in name for name, weight in trainable.items())
    before = run.evaluate()
    run.train()
    assert run.evaluate()["eval_nll"] < before["eval_nll"] - 0.1


# Mixtures of experts


def tiny_mixtral() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "initializer_range": 0.5}
    model_config = MixtralConfig(vocab_size=64, hidden_size=16, intermediate_size=16, **sizes, **ids)
    # The grouped matrix product has no float64.
    return MixtralForCausalLM._from_config(model_config, experts_implementation="eager").double()


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_the_loss_of_a_router_is_added_unweighted(coefficient: float, tmp_path: Path) -> None:
    changes = updates(trainer(tmp_path, model=tiny_mixtral(), router_aux_loss_coef=coefficient))
    model, longest = tiny_mixtral(), max(len(row["input_ids"]) for row in rows(8))
    ids = [torch.tensor(row["input_ids"]) for row in rows(8)]
    padded = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in ids])
    mask = torch.stack([(torch.arange(longest) < len(row)).long() for row in ids])
    aux_loss = model(input_ids=padded, attention_mask=mask, output_router_logits=True).aux_loss
    loss = loss_by_definition(model, rows(8), lambda g: torch.exp(K * g)) + coefficient * aux_loss
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(changes[name], -0.1 * gradient)


# What is learnt of text


def test_completion_only_loss_scores_the_completions_of_texts(tmp_path: Path) -> None:
    pairs = [{"prompt": "w1 w2", "completion": " w3 w4 w5"}, {"prompt": "w6 w7 w8", "completion": " w9"}]
    changes = updates(trainer(tmp_path, data=Dataset.from_list(pairs)))
    no, end = -100, 1
    examples = [
        {"input_ids": [5, 6, 7, 8, 9, end], "labels": [no, no, 7, 8, 9, end]},
        {"input_ids": [10, 11, 12, 13, end], "labels": [no, no, no, 13, end]},
    ]
    model = tiny_llama()
    for name, gradient in gradients(model, loss_by_definition(model, examples, lambda g: torch.exp(K * g))).items():
        torch.testing.assert_close(changes[name], -0.1 * gradient)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_assistant_only_loss_scores_the_answers_of_conversations(layout: str, tmp_path: Path) -> None:
    talks = [
        [("user", "w1 w2"), ("assistant", "w3"), ("user", "w4"), ("assistant", "w5 w6")],
        [("user", "w7"), ("assistant", "w8 w9")],
    ]
    data = Dataset.from_list([{"messages": [{"role": r, "content": c} for r, c in talk]} for talk in talks])
    changes = updates(trainer(tmp_path, data=data, assistant_only_loss=True, **LAYOUTS[layout]))
    user, assistant, end, no = 2, 3, 1, -100
    examples = [
        {
            "input_ids": [user, 5, 6, assistant, 7, end, user, 8, assistant, 9, 10, end],
            "labels": [no, no, no, no, 7, end, no, no, no, 9, 10, end],
        },
        {"input_ids": [user, 11, assistant, 12, 13, end], "labels": [no, no, no, 12, 13, end]},
    ]
    model = tiny_llama()
    for name, gradient in gradients(model, loss_by_definition(model, examples, lambda g: torch.exp(K * g))).items():
        torch.testing.assert_close(changes[name], -0.1 * gradient)


# Odd batches


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sequences_without_a_scored_token_change_nothing(layout: str, tmp_path: Path) -> None:
    silent = {"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}
    alone = {"input_ids": [9], "labels": [9]}
    mixed = Dataset.from_list([silent, *rows(3), silent, alone])
    settings = {"reduction": "sequence_mean", **LAYOUTS[layout]}
    # One row at a time: some micro-batches have nothing to learn at all.
    skip = {"dataset_kwargs": {"skip_prepare_dataset": True}} if layout != "packed" else {}
    with pytest.warns(UserWarning, match="of 6 examples of the train data set, 3 have no token to learn from"):
        run = trainer(
            tmp_path, data=mixed, per_device_train_batch_size=1, gradient_accumulation_steps=6, **skip, **settings
        )
    changes = updates(run)
    expected = updates(trainer(tmp_path, data=dataset(3), **settings))
    for name, change in changes.items():
        torch.testing.assert_close(change, expected[name])
    assert run.state.log_history[0]["weight_min"] > 0


@pytest.mark.parametrize("layout", ["padded", "padding-free"])
def test_a_window_of_masked_labels_changes_nothing(layout: str, tmp_path: Path) -> None:
    silent = {"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}
    settings = {"divide_by_mean_weight": True, "per_device_train_batch_size": 1, **LAYOUTS[layout]}
    settings |= {"dataset_kwargs": {"skip_prepare_dataset": True}}
    with pytest.warns(UserWarning, match="of 2 examples of the train data set, 1 have no token to learn from"):
        run = trainer(tmp_path, data=Dataset.from_list([silent, *rows(1)]), max_steps=2, **settings)
    changes, expected = updates(run), updates(trainer(tmp_path, data=dataset(1), **settings))
    for name, change in changes.items():
        torch.testing.assert_close(change, expected[name])
    [row] = [row for row in run.state.log_history if row.get("loss") == 0]
    assert "weight_mean" not in row


CUT = [
    {"prompt": "w1 w2 w3 w4 w5 w6 w7 w8", "completion": " w9"},
    {"prompt": "w1 w2 w3 w4 w5", "completion": " w6 w7 w8 w9"},
    {"prompt": "w1 w2", "completion": " w3"},
]


@pytest.mark.parametrize("packing", [False, True])
def test_completions_that_are_cut_away_are_counted(packing: bool, tmp_path: Path) -> None:
    found = "of 3 examples of the {} data set, 1 keep nothing to learn from, 1 lose a part of their target "
    found += "within `max_length` 8; raise it to keep them whole"
    settings = {"max_length": 8, "packing": packing}
    with pytest.warns(UserWarning) as warned:
        run = trainer(tmp_path, data=Dataset.from_list(CUT), eval_dataset=Dataset.from_list(CUT), **settings)
    texts = [str(warning.message) for warning in warned]
    assert [text for text in texts if "to learn from" in text] == [found.format("train"), found.format("eval")]
    nll = run.evaluate()["eval_nll"]
    kept = [
        {"input_ids": [5, 6, 7, 8, 9, 10, 11, 12], "labels": [-100] * 5 + [10, 11, 12]},
        {"input_ids": [5, 6, 7, 1], "labels": [-100, -100, 7, 1]},
    ]
    assert nll == pytest.approx(loss_by_definition(tiny_llama(), kept, lambda g: g).item())


def test_the_beginning_of_a_target_may_be_cut_too() -> None:
    options: Any = SimpleNamespace(max_length=3, truncation_mode="keep_end", packing_strategy="bfd")
    data = Dataset.from_list([{"labels": [-100, 5, 6, 7, 8]}, {"labels": [-100, -100, 6, 7]}, {"labels": [5, 6, -100]}])
    with pytest.warns(UserWarning, match=r"of 3 examples of the train data set, 1 lose a part .* `max_length` 3"):
        report_targets(data, name="train", kept=kept_part(options, packing=False), speaks=True)
    assert kept_part(options, packing=True) == slice(3)
    options.packing_strategy = "bfd_split"
    assert kept_part(options, packing=True) == slice(None)


def test_data_without_any_target_are_refused(tmp_path: Path) -> None:
    hopeless = Dataset.from_list(CUT[:1])
    message = "the {} data set has no example with a token to learn from within `max_length` 8: prompts alone fill it"
    with pytest.raises(ValueError, match=message.format("train")):
        trainer(tmp_path, data=hopeless, max_length=8)
    with pytest.raises(ValueError, match=message.format("eval")):
        trainer(tmp_path, data=Dataset.from_list(CUT[2:]), eval_dataset=hopeless, max_length=8)
    silent = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}])
    skip = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    with pytest.raises(ValueError, match=r"the train data set has no example .*: all labels are -100"):
        trainer(tmp_path, data=silent, **skip)
    run = trainer(tmp_path, data=dataset(2), **skip)
    with pytest.raises(UserError, match="no validation example has a target token to be scored on"):
        run.evaluate(silent)


def test_what_is_cut_of_a_stream_is_said_once(tmp_path: Path) -> None:
    stream = Dataset.from_list([*CUT, *CUT]).to_iterable_dataset()
    with pytest.warns(UserWarning, match="of the streamed train data set, some") as warned:
        trainer(tmp_path, data=stream, max_length=8, max_steps=2, per_device_train_batch_size=1).train()
    assert len([warning for warning in warned if "streamed" in str(warning.message)]) == 2


def test_padding_of_a_flattened_row_is_no_sequence(tmp_path: Path) -> None:
    settings = {"reduction": "sequence_mean", **LAYOUTS["padding-free"]}
    padded = updates(trainer(tmp_path, pad_to_multiple_of=64, **settings))
    torch.testing.assert_close(padded, updates(trainer(tmp_path, **settings)))


def test_boundaries_are_found_in_positions_where_there_is_no_seq_idx(tmp_path: Path) -> None:
    run = trainer(tmp_path, **LAYOUTS["padding-free"])
    batch = next(iter(run.get_train_dataloader()))
    positions = {name: batch[name] for name in ("input_ids", "labels", "position_ids")}
    lengths = [len(row["input_ids"]) for row in run.train_dataset]
    ids = TrlRows().sequence_ids(positions)
    assert sorted(ids[0].bincount().tolist()) == sorted(lengths)
    assert (ids.diff() == (batch["position_ids"][:, 1:] == 0)).all()
    counted_otherwise = {**positions, "position_ids": None, "seq_idx": 7 - ids.int()}
    torch.testing.assert_close(TrlRows().sequence_ids(counted_otherwise), ids)
    padded = {**positions, "attention_mask": torch.ones_like(batch["input_ids"])}
    assert TrlRows().sequence_ids(padded) is None, "positions of a padded row may repeat zeros"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    def poisoned(scores: SequenceScores) -> torch.Tensor:
        return scores.log_prob / 0.0

    with pytest.raises(UserError, match="not finite at step 1"):
        trainer(tmp_path, objective=poisoned).train()


# Evaluation and logs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluation_is_the_definition_however_it_is_cut(layout: str, tmp_path: Path) -> None:
    model = tiny_llama()
    expected = loss_by_definition(model, rows(7, seed=4), lambda g: torch.exp(K * g), reduction="sequence_mean")
    nll = loss_by_definition(model, rows(7, seed=4), lambda g: g)
    for size in (2, 7):
        metrics = trainer(
            tmp_path,
            eval_dataset=dataset(7, seed=4),
            per_device_eval_batch_size=size,
            reduction="sequence_mean",
            **LAYOUTS[layout],
        ).evaluate()
        assert metrics["eval_loss"] == pytest.approx(expected.item())
        assert metrics["eval_nll"] == pytest.approx(nll.item())


def test_entropy_is_that_of_the_scored_predictions(tmp_path: Path) -> None:
    run = trainer(tmp_path, eval_dataset=dataset(8), learning_rate=0.0, gradient_accumulation_steps=2, **{})
    metrics = run.evaluate()
    run.train()
    model, entropies = tiny_llama(), []
    for row in rows(8):
        p = model(input_ids=torch.tensor([row["input_ids"]])).logits[0].softmax(-1)
        h = -(p * p.log()).sum(-1)
        entropies += [h[t - 1] for t in range(1, len(row["labels"])) if row["labels"][t] != -100]
    expected = torch.stack(entropies).mean().item()
    assert metrics["eval_entropy"] == pytest.approx(expected)
    [log] = [row for row in run.state.log_history if "loss" in row]
    assert log["entropy"] == pytest.approx(expected)


def test_logs_have_weights_tokens_and_speed(tmp_path: Path) -> None:
    run = trainer(tmp_path, learning_rate=0.0, max_steps=3, logging_steps=2, gradient_accumulation_steps=1)
    run.train()
    model, weight = tiny_llama(), []
    for row in rows(8):
        g = -loss_by_definition(model, [row], lambda g: g)
        weight.append(K * math.exp(K * g.item()))
    logs = [row for row in run.state.log_history if "loss" in row]
    assert logs[0]["weight_mean"] == pytest.approx(sum(weight) / 8)
    assert logs[0]["weight_min"] == pytest.approx(min(weight))
    assert logs[0]["weight_max"] == pytest.approx(max(weight))
    assert logs[0]["tokens_per_second"] > 0
    num_tokens = sum(len(row["input_ids"]) for row in rows(8))
    assert [row["num_tokens"] for row in logs] == [2 * num_tokens]
    assert "mean_token_accuracy" not in logs[0]


def test_metrics_of_logits_get_them(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def compute_metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction.predictions.shape)
        return {"seen": 1.0}

    run = trainer(tmp_path, eval_dataset=dataset(4), compute_metrics=compute_metrics)
    metrics = run.evaluate()
    assert metrics["eval_seen"] == 1.0
    assert seen == [(4, max(len(row["input_ids"]) for row in rows(4)), 64)]
    assert metrics["eval_loss"] == pytest.approx(
        loss_by_definition(tiny_llama(), rows(4), lambda g: torch.exp(K * g)).item()
    )


# The objective


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ConvexComposition(Exponential(1.0))),
        ({"objective_kwargs": {"transform": {"name": "box_cox", "k": 2.0}}}, ConvexComposition(BoxCox(2.0))),
        ({"objective_kwargs": '{"transform": {"name": "power", "k": 0.5}}'}, ConvexComposition(Power(0.5))),
        ({"objective_kwargs": {"transform": "power"}}, ConvexComposition(Power(1.0))),
        ({"objective_kwargs": {"label_smoothing": 0.1}}, ConvexComposition(Exponential(1.0), label_smoothing=0.1)),
        (
            {"objective": "maximum_likelihood", "objective_kwargs": {"label_smoothing": 0.1}},
            MaximumLikelihood(label_smoothing=0.1),
        ),
    ],
)
def test_fields_describe_the_objective(settings: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    made = SharpSFTConfig(output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, **settings)
    assert made.build_objective() == expected


def test_fields_describe_schedules(tmp_path: Path) -> None:
    k = {"schedule": "linear", "start": 0.0, "end": 2.0, "until": 0.5}
    objective = config(tmp_path, objective_kwargs={"transform": {"name": "box_cox", "k": k}}).build_objective()
    assert [objective.at(share).transform.k for share in (0, 0.25, 0.5, 1)] == [0, 1, 2, 2]


def test_fields_can_be_given_on_a_command_line(tmp_path: Path) -> None:
    settings = '{"transform": {"name": "box_cox", "k": 0.25}}'
    line = ["--output_dir", str(tmp_path), "--objective_kwargs", settings, "--reduction", "sequence_mean"]
    line += ["--bf16", "False", "--gradient_checkpointing", "False"]
    [made] = HfArgumentParser(SharpSFTConfig).parse_args_into_dataclasses(line)
    assert made.build_objective() == ConvexComposition(BoxCox(0.25))
    assert made.reduction == "sequence_mean"


def test_an_objective_of_ones_own_wins_over_the_fields(tmp_path: Path) -> None:
    def squared(scores: SequenceScores) -> torch.Tensor:
        return scores.normalized_log_prob() ** 2

    changes = updates(trainer(tmp_path, objective=squared, objective_kwargs={"transform": "power"}))
    model = tiny_llama()
    expected = gradients(model, loss_by_definition(model, rows(8), lambda g: -(g**2)))
    for name, gradient in expected.items():
        torch.testing.assert_close(changes[name], -0.1 * gradient)


def test_a_schedule_follows_the_updates(tmp_path: Path) -> None:
    run = trainer(tmp_path, objective=ConvexComposition(BoxCox(Linear(0, 4))), max_steps=4, logging_steps=1)
    run.train()
    assert [row["transform.k"] for row in run.state.log_history if "loss" in row] == [0, 1, 2, 3]


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective_kwargs": {"transform": {"name": "exponential", "k": 0.0}}}, "`k` must be greater than 0; got 0.0"),
        ({"objective_kwargs": {"transform": {"name": "power", "k": 2.0}}}, r"in \(0, 1\]; got 2.0 \(in `objective_kw"),
        ({"objective_kwargs": {"transform": "cubic"}}, "`name` must not be 'cubic'; valid: .*power"),
        ({"objective_kwargs": {"transfrom": "power"}}, "unknown key `transfrom`; did you mean `transform`"),
        ({"objective_kwargs": "k: 2"}, "must be a mapping or JSON; got 'k: 2'"),
        ({"objective": "mle"}, "`objective` must not be 'mle'; valid: .*maximum_likelihood"),
        ({"objective_kwargs": {"label_smoothing": 1.0}}, r"`label_smoothing` must be in \[0, 1\); got 1.0"),
        ({"reduction": "mean"}, "sequence_mean, token_mean; got 'mean'"),
        ({"loss_type": "dft"}, "`loss_type` must be 'nll'.*got 'dft'"),
        ({"label_smoothing_factor": 0.1}, "use `label_smoothing`"),
        ({"packing": True, "packing_strategy": "wrapped"}, "'wrapped', which cuts sequences"),
        ({"eval_packing": True, "packing_strategy": "wrapped"}, "'wrapped', which cuts sequences"),
        ({"eval_packing": True}, "`eval_packing` needs `packing` or `padding_free`"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **settings)


@pytest.mark.parametrize(("name", "words"), [("tp_size", "tensor"), ("cp_size", "context"), ("sp_size", "sequence")])
def test_parallelism_within_a_sequence_is_refused(name: str, words: str) -> None:
    class Parallelism:
        tp_size = cp_size = sp_size = 1

    parallelism = Parallelism()
    integration.check_parallelism(parallelism)
    setattr(parallelism, name, 2)
    with pytest.raises(ValueError, match=f"{name}=2, but {words} parallelism is not supported"):
        integration.check_parallelism(parallelism)


def test_a_strategy_that_cuts_long_sequences_is_warned_about(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="each piece is scored as a sequence of its own"):
        config(tmp_path, packing=True, packing_strategy="bfd_split")


def test_a_loss_function_beside_the_objective_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass the loss as `objective`"):
        trainer(tmp_path, compute_loss_func=lambda outputs, labels, num_items_in_batch: outputs.logits.sum())


def test_arguments_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a SharpSFTConfig; got TrainingArguments"):
        trainer(tmp_path, args=TrainingArguments(str(tmp_path), use_cpu=True))


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_virtual_tokens_are_refused(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} puts virtual tokens before the text"):
        trainer(tmp_path, peft_config=kind(task_type="CAUSAL_LM", num_virtual_tokens=2))


@pytest.mark.parametrize("version", ["0.29.1", "2.0.0"])
def test_another_version_of_trl_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration.trl, "__version__", version)
    spec = spec_from_file_location("another_copy", integration.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=rf"works with trl>=1\.\d+,<2; trl {version} is installed: pip install"):
        spec.loader.exec_module(module_from_spec(spec))


def test_the_range_of_versions_is_that_of_the_package(repository: Path) -> None:
    extra = re.search(
        r'^trl = \["trl>=(?P<oldest>[\d.]+),<(?P<unknown>\d+)"', (repository / "pyproject.toml").read_text(), re.M
    )
    assert extra is not None
    assert (extra["oldest"], extra["unknown"]) == (integration.OLDEST, integration.FIRST_UNKNOWN)


def test_nothing_imports_trl_before_it_is_asked_for() -> None:
    probe = "import sys, sharpseq.integrations, sharpseq.integrations.compute_loss_func; print('trl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
