"""The trainer of preferences: what it is invariant to, its references, its stored scores, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import SIZES, tiny_model, weights
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sharpseq import PreferenceTrainer, SequenceTrainingArguments
from sharpseq.data import (
    EncodedPair,
    Message,
    PairCollator,
    Preference,
    preferences_of,
    read_preferences,
    train_tokenizer,
)
from sharpseq.errors import UserError
from sharpseq.models import MODELS
from sharpseq.models.adapters import add_lora
from sharpseq.objectives.preference import D2O, Cvar, FDpo, HDpo, RaDpo, SparsePo
from sharpseq.scoring import score_model
from sharpseq.training import Step, collator_for
from sharpseq.training.preference import AdapterBaseReference, ModelReference, StoredReference, store_reference


def pairs(family: str, *, count: int = 8, num_chosen: int = 1, seed: int = 0) -> list[EncodedPair]:
    """Return sources with random answers of the same length."""
    generator, end = random.Random(seed), [0] if family in ("autoregressive", "llama") else []
    made: list[EncodedPair] = []
    while len(made) < count:
        source = [generator.randrange(5, 15) for _ in range(generator.randrange(2, 7))]
        answers = [[generator.randrange(5, 15) for _ in source] for _ in range(num_chosen + 1)]
        if answers[0] != answers[-1]:
            chosen = tuple([*answer, *end] for answer in answers[:-1])
            made.append(EncodedPair(len(made), [*source, 0], chosen, [*answers[-1], *end]))
    return made


def policy(family: str, dropout: float = 0.0) -> PreTrainedModel:
    if family == "llama":
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        ids = {"pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}
        config = LlamaConfig(vocab_size=15, max_position_embeddings=40, initializer_range=0.5, **sizes, **ids)
        return LlamaForCausalLM(config).double()
    return tiny_model(family, dropout=dropout).double()


def trainer(folder: Path, model: Any, data: list[EncodedPair], **settings: Any) -> PreferenceTrainer:
    own = {name: settings.pop(name) for name in ("objective", "reference", "eval_dataset") if name in settings}
    shared = {"max_steps": 4, "learning_rate": 0.3, "optim": "sgd", "report_to": "none", "disable_tqdm": True}
    shared |= {"logging_steps": 1, "save_strategy": "no", "max_grad_norm": 0.0, "use_cpu": True}
    arguments = SequenceTrainingArguments(output_dir=str(folder), **{**shared, **settings})
    return PreferenceTrainer(model, arguments, train_dataset=data, **own)


def trained(folder: Path, model: Any, data: list[EncodedPair], **settings: Any) -> dict[str, torch.Tensor]:
    made = trainer(folder, model, data, **settings)
    made.train()
    return weights(made.model)


CASES = {
    "f_dpo autoregressive": ("autoregressive", FDpo(0.5)),
    "f_dpo ctc": ("ctc", FDpo(0.5)),
    "h_dpo vanilla_nat": ("vanilla_nat", HDpo(0.5)),
    "d2o llama": ("llama", D2O(0.5, 0.5)),
    "ra_dpo llama": ("llama", RaDpo(0.5, risk=Cvar(0.5))),
    "sparse_po llama": ("llama", SparsePo(0.5, reward_penalty=0.1)),
    "fixed masks autoregressive": ("autoregressive", SparsePo(0.5, masks="fixed")),
}


@pytest.mark.parametrize("case", CASES)
def test_accumulation_changes_nothing(case: str, tmp_path: Path) -> None:
    family, objective = CASES[case]
    data = pairs(family, num_chosen=3 if isinstance(objective, D2O) else 1)
    whole = trained(tmp_path, policy(family), data, objective=objective, per_device_train_batch_size=8)
    parts = trained(
        tmp_path,
        policy(family),
        data,
        objective=objective,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
    )
    before = weights(policy(family))
    assert set(whole) == set(before)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-10)
    assert any(not torch.equal(whole[name], before[name]) for name in whole)


@pytest.mark.parametrize("case", ["f_dpo autoregressive", "sparse_po llama"])
def test_a_resumed_training_ends_at_the_same_bits(case: str, tmp_path: Path) -> None:
    family, objective = CASES[case]
    settings: dict[str, Any] = {
        "objective": objective,
        "per_device_train_batch_tokens": 60,
        "optim": "adamw_torch",
        "learning_rate": 0.01,
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 4,
    }
    data = pairs(family, count=16)
    whole = trainer(tmp_path / "whole", policy(family, 0.1), data, **settings)
    whole.train()
    again = trainer(tmp_path / "again", policy(family, 0.1), data, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, weight in weights(whole.model).items():
        assert torch.equal(weight, weights(again.model)[name]), name
    if whole.token_masks is not None and again.token_masks is not None:
        assert not (whole.token_masks.linear.bias == 1).all()
        assert torch.equal(whole.token_masks.linear.weight, again.token_masks.linear.weight)
        assert not any("token_masks" in name for name, _ in whole.model.named_parameters())


def test_learned_masks_become_sparse(tmp_path: Path) -> None:
    objective = SparsePo(0.5, reward_penalty=5.0, drift_penalty=5.0)
    made = trainer(tmp_path, policy("llama"), pairs("llama"), objective=objective, max_steps=10)
    made.train()
    assert made.token_masks is not None
    states = made.model(input_ids=torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states[-1]
    assert (made.token_masks(states)[0] == 0).any()


# References


def loss_of(model: Any, data: list[EncodedPair], made: PreferenceTrainer) -> torch.Tensor:
    batch = PairCollator(collator_for(model))(data)
    with torch.no_grad():
        return made.loss(model, batch, Step(progress=0.0, update=0, seed=1, is_training=True)).losses


def test_the_reference_is_the_policy_as_training_begins(tmp_path: Path) -> None:
    data = pairs("llama")
    made = trainer(tmp_path, policy("llama"), data, objective=FDpo(0.5))
    assert isinstance(made.loss.reference, ModelReference)  # type: ignore[attr-defined]
    torch.testing.assert_close(loss_of(made.model, data, made), torch.full((8,), 2.0, dtype=torch.float64).log())
    made.train()
    expected = []
    for pair in data:
        gap = 0.0
        for sign, answer in ((1, pair.chosen[0]), (-1, pair.rejected)):
            labels = [-100] * len(pair.input_ids) + answer
            batch = {"input_ids": torch.tensor([pair.input_ids + answer]), "labels": torch.tensor([labels])}
            for factor, model in ((1, made.model), (-1, policy("llama"))):
                gap += sign * factor * float(score_model(model, batch).log_prob[0].detach())
        expected.append(torch.log1p(torch.exp(torch.tensor(-0.5 * gap, dtype=torch.float64))))
    torch.testing.assert_close(loss_of(made.model, data, made), torch.stack(expected))


@pytest.mark.parametrize("objective", [FDpo(0.5), RaDpo(0.5)], ids=["f_dpo", "ra_dpo"])
def test_a_new_adapter_is_compared_with_its_base(objective: Any, tmp_path: Path) -> None:
    data = pairs("llama")

    def with_adapter() -> Any:
        torch.manual_seed(1)
        return add_lora(policy("llama"), r=2, lora_alpha=4)

    light = trainer(tmp_path, with_adapter(), data, objective=objective)
    assert isinstance(light.loss.reference, AdapterBaseReference)  # type: ignore[attr-defined]
    heavy = trainer(tmp_path, with_adapter(), data, objective=objective, reference=policy("llama"))
    for made in (light, heavy):
        made.train()
    for name, weight in weights(light.model).items():
        torch.testing.assert_close(weight, weights(heavy.model)[name], rtol=0, atol=1e-10)
    # Trained further, the adapter is a part of what is compared with.
    again = trainer(tmp_path, light.model, data, objective=objective)
    assert isinstance(again.loss.reference, ModelReference)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["autoregressive", "ctc", "llama"])
def test_stored_scores_train_as_the_reference_does(family: str, tmp_path: Path) -> None:
    data, tokenizer = pairs(family), train_tokenizer(["abcdefghij"], kind="characters")
    stored = store_reference(policy(family), tokenizer, data, tmp_path / "reference.safetensors", batch_tokens=30)
    stored.check(policy(family), tokenizer, data)
    expected = trained(tmp_path, policy(family), data)
    found = trained(tmp_path, policy(family), data, reference=StoredReference(stored.path))
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)


def test_stored_scores_of_something_else_are_refused(tmp_path: Path) -> None:
    data, tokenizer = pairs("llama"), train_tokenizer(["abcdefghij"], kind="characters")
    path = tmp_path / "reference.safetensors"
    stored = store_reference(policy("llama"), tokenizer, data, path)
    other = policy("llama")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(UserError, match="made from other weights than those that training starts from; delete it"):
        stored.check(other, tokenizer, data)
    with pytest.raises(UserError, match="made with another tokenizer"):
        stored.check(policy("llama"), train_tokenizer(["xyz"], kind="characters"), data)
    with pytest.raises(UserError, match=r"no scores for \d of 8 pairs, first for pair \d \(counted from 0\)"):
        stored.check(policy("llama"), tokenizer, pairs("llama", seed=5))
    with pytest.raises(ValueError, match="only the scores of answers are stored"):
        trained(tmp_path, policy("llama"), data, objective=RaDpo(), reference=stored)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"reference.safetensors is no file of reference scores .*; delete it"):
        StoredReference(path)


# What is refused


def test_bad_references_are_refused(tmp_path: Path) -> None:
    data, model = pairs("autoregressive"), policy("autoregressive")
    spec = MODELS["autoregressive"]
    other = spec.model(spec.config(vocab_size=16, **SIZES))
    with pytest.raises(UserError, match="the reference's vocabulary has 16 entries and the policy's 15"):
        trainer(tmp_path, model, data, reference=other)
    with pytest.raises(ValueError, match="`reference` must be another object than the model"):
        trainer(tmp_path, model, data, reference=model)
    with pytest.raises(ValueError, match=r"this model has none; add `model\.lora`"):
        trained(tmp_path, model, data, reference=AdapterBaseReference())
    for family in ("cmlm", "masked_diffusion", "latent_nat"):
        with pytest.raises(ValueError, match="only that of a random part of them, or a bound"):
            trainer(tmp_path, tiny_model(family), pairs(family))


@pytest.mark.parametrize("objective", [RaDpo(), SparsePo()], ids=["ra_dpo", "sparse_po"])
def test_a_model_without_tokens_is_refused_by_objectives_of_tokens(objective: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="and CTC scores whole sequences only; choose a loss of sequences"):
        trained(tmp_path, policy("ctc"), pairs("ctc"), objective=objective)


def test_pairs_without_a_difference_are_refused() -> None:
    with pytest.raises(ValueError, match="pair 3 has the same tokens twice"):
        EncodedPair(3, [5, 0], ([6, 0],), [6, 0])
    with pytest.raises(ValueError, match="pair 3 has an answer without tokens"):
        EncodedPair(3, [5, 0], ([],), [6])


# TRL's formats


USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
)
FIRST = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, Preference("q", ("a",), "b")),
        ({"chosen": "Sky is blue.", "rejected": "Sky is red."}, Preference("Sky is", (" blue.",), " red.")),
        ({"prompt": "q", "chosen": ["a", "c"], "rejected": "b"}, Preference("q", ("a", "c"), "b")),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, Preference("q", ("a",), "b")),
        (
            {"chosen": [*FIRST, USER, GOOD], "rejected": [*FIRST, USER, BAD]},
            Preference("q", ("a",), "b", tuple(Message(turn["role"], turn["content"]) for turn in FIRST)),
        ),
    ],
    ids=["explicit", "implicit", "samples", "conversation", "implicit conversation"],
)
def test_the_formats_of_trl_are_read(record: dict[str, Any], expected: Preference, tmp_path: Path) -> None:
    assert preferences_of([record]) == [expected]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert read_preferences(path) == [expected]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "row 1: `chosen` and `rejected` are the same text"),
        ({"chosen": "a b", "rejected": "a b c"}, "row 1: the answer `chosen` is empty"),
        ({"prompt": "q", "chosen": [], "rejected": "a"}, "row 1: field `chosen` holds an empty list"),
        ({"prompt": "q", "chosen": [GOOD], "rejected": "a"}, "row 1: field `rejected` holds a text"),
        ({"prompt": [USER], "chosen": [GOOD, USER], "rejected": [BAD]}, "`chosen` must add one message of the role"),
        (
            {"prompt": FIRST, "chosen": [GOOD], "rejected": [BAD]},
            "the answers must follow a message of the role",
        ),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "row 1: `chosen` and `rejected` are the same text"),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [{"role": "assistant"}]}, "`rejected`, message 1: no field"),
    ],
)
def test_records_that_are_no_preferences_are_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preferences_of([record])
