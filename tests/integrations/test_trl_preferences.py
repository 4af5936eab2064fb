"""TRL's DPO and ours on the same batch: value and gradient; and every objective inside TRL's trainer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_model import SETTINGS, tiny_llama, tiny_tokenizer

pytest.importorskip("trl")

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from sharpseq import PreferenceTrainer, SequenceTrainingArguments
from sharpseq.data import Prompt, attach_prompt, encode_pairs, preferences_of
from sharpseq.integrations.trl import SharpDPOConfig, SharpDPOTrainer, SharpSFTConfig
from sharpseq.objectives.preference import FDpo, RaDpo, SparsePo

BETA = 0.3
CHECKPOINTING = next(
    field.name
    for field in dataclasses.fields(DPOConfig)
    if field.name in ("activation_checkpointing", "gradient_checkpointing")
)
OTHERS = [[20 + number * k for k in range(1, 2 + number % 3)] for number in range(1, 9)]
RECORDS = [
    {
        "prompt": [{"role": "user", "content": f"w{number} w{number + 3}"}],
        "chosen": [{"role": "assistant", "content": " ".join(f"w{number + k}" for k in range(1 + number % 4))}],
        "rejected": [
            {"role": "assistant", "content": " ".join(f"w{20 + number * k}" for k in range(1, 2 + number % 3))}
        ],
    }
    for number in range(1, 9)
]
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
# TRL's names for the divergences, and ours with the β that makes them the same.
DIVERGENCES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reverse_kl": ({}, {}),
    "forward_kl": ({"f_divergence_type": "forward_kl"}, {"divergence": "kl"}),
    "js_divergence": ({"f_divergence_type": "js_divergence"}, {"divergence": "jensen_shannon", "beta": 2 * BETA}),
    "alpha_divergence": (
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.4},
        {"divergence": {"name": "alpha", "alpha": 0.6}},
    ),
}


def reference_model() -> Any:
    """A model that differs from the policy, so that no log-ratio is 0."""
    model = tiny_llama()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model


def arguments(folder: Path, **settings: Any) -> dict[str, Any]:
    update = {"max_steps": 1, "max_grad_norm": 0.0, "per_device_train_batch_size": 8}
    # TRL's own default warns of the name that `SETTINGS` has.
    shared = {name: value for name, value in SETTINGS.items() if name != "gradient_checkpointing"}
    return {**shared, CHECKPOINTING: False, "output_dir": str(folder), "beta": BETA, **update, **settings}


def made(kind: Any, config: Any, *, model: Any = None, **kwargs: Any) -> Any:
    return kind(
        tiny_llama() if model is None else model,
        args=config,
        train_dataset=Dataset.from_list(RECORDS),
        processing_class=tiny_tokenizer(),
        **kwargs,
    )


def theirs(folder: Path, *, lora: bool = False, **settings: Any) -> Any:
    config = DPOConfig(**arguments(folder, **settings))
    return made(DPOTrainer, config, **({"peft_config": LORA} if lora else {"ref_model": reference_model()}))


def ours(folder: Path, *, lora: bool = False, objective: Any = None, **settings: Any) -> Any:
    config = SharpDPOConfig(**arguments(folder, **settings))
    given = {"peft_config": LORA} if lora else {"ref_model": reference_model()}
    return made(SharpDPOTrainer, config, objective=objective, **given)


def step_of(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of one update, and the weights after it."""
    trainer.train()
    loss = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    return loss, {name: weight.detach() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_value_and_gradient_are_those_of_trl(name: str, tmp_path: Path) -> None:
    settings, kwargs = DIVERGENCES[name]
    try:
        expected_loss, expected = step_of(theirs(tmp_path / "theirs", **settings))
    except KeyError:
        pytest.skip("this version of TRL has no α-divergence of float64 models")
    loss, found = step_of(ours(tmp_path / "ours", objective_kwargs=kwargs))
    # TRL rounds log-probabilities of float64 models to float32; ours are right to the last digits, as is shown below.
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    before = dict(tiny_llama().named_parameters())
    for weight in found:
        torch.testing.assert_close(found[weight], expected[weight], rtol=1e-6, atol=1e-6)
    assert max(float((found[weight] - before[weight]).detach().abs().max()) for weight in found) > 1e-3


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_gradient_is_that_of_the_definition(name: str, tmp_path: Path) -> None:
    """From plain log-softmax in float64, one answer at a time."""
    trainer = ours(tmp_path, objective_kwargs=DIVERGENCES[name][1])
    policy, reference = tiny_llama(), reference_model()

    def log_ratio(row: dict[str, list[int]], answer: str) -> torch.Tensor:
        ids, start = torch.tensor([row["prompt_ids"] + row[answer]]), len(row["prompt_ids"])
        both = []
        for model in (policy, reference):
            log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
            both.append(sum(log_probs[place - 1, ids[0, place]] for place in range(start, ids.shape[1])))
        return torch.as_tensor(both[0] - both[1].detach())

    reward = {
        "reverse_kl": lambda r: r,
        "forward_kl": lambda r: 1 - torch.exp(-r),
        "js_divergence": lambda r: torch.log(2 / (1 + torch.exp(-r))),
        "alpha_divergence": lambda r: (torch.exp(-0.6 * r) - 1) / -0.6,
    }[name]
    losses = [
        torch.log1p(torch.exp(-BETA * (reward(log_ratio(row, "chosen_ids")) - reward(log_ratio(row, "rejected_ids")))))
        for row in trainer.train_dataset
    ]
    torch.stack(losses).mean().backward()
    _, found = step_of(trainer)
    for weight, value in policy.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(found[weight], value.detach() - 0.1 * value.grad, rtol=0, atol=1e-11)


def test_our_own_trainer_makes_the_same_step(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    attach_prompt(tokenizer, Prompt("chat"))
    pairs = encode_pairs(preferences_of(RECORDS), tokenizer, append_eos_to_target=True)
    settings = {key: value for key, value in arguments(tmp_path / "own").items() if key != "beta"}
    trainer = PreferenceTrainer(
        tiny_llama(),
        SequenceTrainingArguments(**settings),
        objective=FDpo(BETA),
        reference=reference_model(),
        train_dataset=pairs,
    )
    loss, found = step_of(trainer)
    expected_loss, expected = step_of(ours(tmp_path / "ours"))
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    for weight in found:
        torch.testing.assert_close(found[weight], expected[weight], rtol=0, atol=1e-10)


@pytest.mark.parametrize("stored", [False, True], ids=["disabled", "precomputed"])
def test_the_reference_is_the_model_without_its_adapter(stored: bool, tmp_path: Path) -> None:
    settings = {"max_steps": 3, "precompute_ref_log_probs": stored}
    _, expected = step_of(theirs(tmp_path / "theirs", lora=True, **settings))
    _, found = step_of(ours(tmp_path / "ours", lora=True, **settings))
    for weight in found:
        torch.testing.assert_close(found[weight], expected[weight], rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", [None, RaDpo(BETA), SparsePo(BETA, masks="fixed")], ids=["f", "ra", "sparse"])
def test_accumulation_changes_nothing(objective: Any, tmp_path: Path) -> None:
    whole = step_of(ours(tmp_path / "8", objective=objective))
    parts = step_of(
        ours(tmp_path / "2", objective=objective, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    )
    assert parts[0] == pytest.approx(whole[0], abs=1e-6)
    for weight in whole[1]:
        torch.testing.assert_close(parts[1][weight], whole[1][weight], rtol=0, atol=1e-12)


def test_validation_is_over_the_whole_data_set(tmp_path: Path) -> None:
    config = SharpDPOConfig(**arguments(tmp_path, per_device_eval_batch_size=3))
    trainer = made(SharpDPOTrainer, config, ref_model=reference_model(), eval_dataset=Dataset.from_list(RECORDS))
    found = trainer.evaluate()
    trainer.train()
    first = next(row for row in trainer.state.log_history if "loss" in row)
    assert found["eval_loss"] == pytest.approx(first["loss"], abs=1e-5)
    assert found["eval_accuracy"] == pytest.approx(first["accuracy"], abs=1e-6)
    assert found["eval_margin"] == pytest.approx(first["margin"], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "ipo"}, "`loss_type` must be .*: the loss is chosen by `objective`"),
        ({"label_smoothing": 0.1}, "`label_smoothing` must be 0.0; got 0.1"),
        ({"f_divergence_type": "forward_kl"}, "`f_divergence_type` must be 'reverse_kl'"),
        ({"objective": "f_dp"}, "`objective` must not be 'f_dp'; did you mean `f_dpo`"),
        ({"objective_kwargs": {"divergence": "le_cam"}}, "`name` must not be 'le_cam'; valid: alpha,"),
        ({"objective_kwargs": "{"}, "`objective_kwargs` must be a mapping or JSON"),
        ({"reduction": "mean"}, "`reduction` must be one of"),
    ],
)
def test_options_that_would_not_do_what_they_say_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        SharpDPOConfig(**arguments(tmp_path, **settings))


def test_beta_is_that_of_trl_unless_the_objective_has_its_own(tmp_path: Path) -> None:
    assert SharpDPOConfig(**arguments(tmp_path)).build_objective().beta == BETA  # type: ignore[attr-defined]
    own = SharpDPOConfig(**arguments(tmp_path, objective_kwargs='{"beta": 2.0}')).build_objective()
    assert own.beta == 2.0  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="`args` must be a SharpDPOConfig; got DPOConfig"):
        made(SharpDPOTrainer, DPOConfig(**arguments(tmp_path)))
    with pytest.raises(ValueError, match="`objective` must not learn masks"):
        made(SharpDPOTrainer, SharpDPOConfig(**arguments(tmp_path, objective="sparse_po")))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator computes in bf16")
@pytest.mark.parametrize("config", [SharpDPOConfig, SharpSFTConfig])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_is_a_default_only_where_the_processor_has_it(
    config: Any, has_bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16}, raising=False)
    assert config(output_dir=str(tmp_path)).bf16 is has_bf16
    assert config(output_dir=str(tmp_path), bf16=True).bf16 is True
