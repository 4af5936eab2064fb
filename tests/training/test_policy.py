"""Policies: whole trainings on own samples, the same under accumulation and after a kill, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_recipe import write_recipe
from tiny_task import FEW_UPDATES, examples, tiny_model, weights

from sharpseq import PolicyTrainer, SequenceTrainingArguments, UserError, load_recipe, run_recipe
from sharpseq.data import train_tokenizer
from sharpseq.declarations import build_method
from sharpseq.evaluation.rewards import metric_reward
from sharpseq.objectives.policy import (
    POLICY_OBJECTIVES,
    DistributionalControl,
    DiversityPreserving,
    EntropyFineTuning,
    FDpg,
)
from sharpseq.runs.checks import check_model
from sharpseq.training import Policy, Step, collator_for
from sharpseq.training.policy.sampling import sample_groups
from sharpseq.training.policy.scored_texts import rewards_of

FAMILIES = ["ctc", "vanilla_nat", "autoregressive"]


def share_of_a(*, completions: Sequence[str], **_: Any) -> list[float]:
    return [text.count("a") / max(len(text), 1) for text in completions]


def tokenizer() -> Any:
    return train_tokenizer(["abcdefghij"], kind="characters")


def policy_trainer(folder: Path, family: str, *, policy: Policy | None = None, **kwargs: Any) -> PolicyTrainer:
    own = {name: kwargs.pop(name) for name in ("model", "reward", "count") if name in kwargs}
    settings = {
        **FEW_UPDATES,
        "learning_rate": 1e-1,
        "per_device_train_batch_size": 8,
        **kwargs,
    }
    count = own.pop("count", 24)
    return PolicyTrainer(
        own.pop("model", None) or tiny_model(family, dropout=0.2).double(),
        SequenceTrainingArguments(output_dir=str(folder), **settings),
        processing_class=tokenizer(),
        policy=policy or Policy(samples=3, max_new_tokens=5),
        train_dataset=examples(count, autoregressive=family == "autoregressive"),
        **{"reward": share_of_a, **own},
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_learns_what_is_rewarded(family: str, tmp_path: Path) -> None:
    trainer = policy_trainer(tmp_path, family, optim="adamw_torch", max_steps=20, learning_rate=3e-2)
    trainer.train()
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert rewards[-1] > rewards[0] + 0.2
    last = next(row for row in reversed(trainer.state.log_history) if "reward" in row)
    assert last["reference_kl"] > 0.5
    assert last["effective_samples"] == 1
    assert last["sample_length"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_micro_batches_change_nothing(family: str, tmp_path: Path) -> None:
    found = []
    settings = {"max_steps": 2, "count": 16}
    for batch, accumulation in ((8, 1), (2, 4), (1, 8)):
        trainer = policy_trainer(
            tmp_path, family, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, **settings
        )
        trainer.train()
        found.append(weights(trainer.model))
    for other in found[1:]:
        for name, weight in found[0].items():
            torch.testing.assert_close(other[name], weight, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_training_resumes_to_the_same_bits(family: str, tmp_path: Path) -> None:
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
    whole = policy_trainer(tmp_path / "whole", family, **settings)
    whole.train()
    resumed = policy_trainer(tmp_path / "resumed", family, **settings)
    resumed.train(str(tmp_path / "whole" / "checkpoint-2"))
    for name, weight in weights(whole.model).items():
        assert weight.equal(resumed.model.state_dict()[name]), name


STATEFUL: dict[str, Policy] = {
    "replay": Policy(samples=2, replay=0.5, stored=16),
    "budgets": Policy(samples=2, kl_budget=0.1, length_budget=2.0, dual_step=0.5),
    "moments": Policy(DistributionalControl({"chrf": 0.1}, refresh=1, inputs=16), samples=4),
    "rehearsal": Policy(DiversityPreserving(ratio="sequence", solved=0.5, right=0.2), samples=2),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_what_is_remembered_is_in_the_checkpoint_and_independent_of_micro_batches(name: str, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "count": 16, "learning_rate": 1.0}
    saving = {**settings, "save_strategy": "steps", "save_steps": 2}
    whole = policy_trainer(tmp_path / "whole", "ctc", policy=STATEFUL[name], **saving)
    whole.train()
    resumed = policy_trainer(tmp_path / "resumed", "ctc", policy=STATEFUL[name], **saving)
    resumed.train(str(tmp_path / "whole" / "checkpoint-2"))
    split = policy_trainer(
        tmp_path / "split",
        "ctc",
        policy=STATEFUL[name],
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        **settings,
    )
    split.train()
    for key, weight in weights(whole.model).items():
        assert weight.equal(resumed.model.state_dict()[key]), key
        torch.testing.assert_close(split.model.state_dict()[key], weight, rtol=1e-7, atol=1e-8)
    rows = [row for row in whole.state.log_history if "reward" in row]
    if name == "replay":
        assert rows[0]["effective_samples"] == 1
        assert 0 < rows[-1]["effective_samples"] < 1
        assert len(whole.loss.state.stored) == 16
    if name == "budgets":
        assert rows[-1]["price_length"] > 0
    if name == "moments":
        assert whole.loss.state.weights is not None
        assert rows[-1]["effective_samples"] < 1
    if name == "rehearsal":
        solved = [group for group in whole.loss._solutions.values() if group is not None]
        assert 0 < len(solved) < 16


def test_a_budget_is_kept(tmp_path: Path) -> None:
    found = {}
    for budget in (None, 0.5):
        policy = Policy(samples=4, kl_budget=budget, dual_step=0.1, dual_proportional=1.0)
        trainer = policy_trainer(
            tmp_path, "ctc", policy=policy, max_steps=40, learning_rate=1e-2, optim="adamw_torch", logging_steps=10
        )
        trainer.train()
        found[budget] = [row["reference_kl"] for row in trainer.state.log_history if "reference_kl" in row][-1]
    assert found[None] > 1.0
    assert found[0.5] == pytest.approx(0.5, abs=0.2)


def test_moments_are_approached(tmp_path: Path) -> None:
    policy = Policy(DistributionalControl({"chrf": 0.15}, inputs=24, refresh=5), samples=16)
    trainer = policy_trainer(
        tmp_path, "ctc", policy=policy, max_steps=40, learning_rate=1e-2, optim="adamw_torch", max_grad_norm=1.0
    )

    def mean() -> float:
        groups = sample_groups(trainer.model, trainer.train_dataset, num_samples=20, temperature=1.0, seed="x")
        rows = rewards_of(metric_reward("chrf"), groups, tokenizer=tokenizer())
        return sum(map(sum, rows)) / (20 * len(rows))

    before = mean()
    trainer.train()
    # A model of independent frames can follow this target a part of the way only.
    assert before + 0.003 < mean() < 0.16


def test_moments_out_of_reach_are_one_line(tmp_path: Path) -> None:
    policy = Policy(DistributionalControl({"chrf": 2.0}), samples=2)
    with pytest.raises(UserError, match=r"the moments of chrf: `moments` \[2.0\] are out of reach"):
        policy_trainer(tmp_path, "ctc", policy=policy).train()


def test_a_constraint_that_no_sample_meets_is_one_line(tmp_path: Path) -> None:
    trainer = policy_trainer(
        tmp_path,
        "ctc",
        policy=Policy(FDpg(target="constraint")),
        reward=lambda *, completions, **_: [0.0] * len(completions),
    )
    with pytest.raises(UserError, match="no sample meets the constraint"):
        trainer.train()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(POLICY_OBJECTIVES))
def test_every_objective_trains_every_model(name: str, family: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"name": name}
    if name in ("diversity_preserving", "asymmetric_policy"):
        settings["ratio"] = "sequence" if family == "ctc" else "token"
    if name == "distributional_control":
        settings |= {"moments": {"chrf": {"ctc": 0.1, "vanilla_nat": 0.2}.get(family, 0.06)}, "inputs": 8, "refresh": 1}
    objective = build_method(POLICY_OBJECTIVES, settings)
    trainer = policy_trainer(
        tmp_path, family, policy=Policy(objective, samples=4, max_new_tokens=4), max_steps=2, count=8
    )
    before = weights(trainer.model)
    trainer.train()
    assert any(not weight.equal(before[key]) for key, weight in weights(trainer.model).items())


def test_entropy_falls_without_a_reward(tmp_path: Path) -> None:
    policy = Policy(EntropyFineTuning(), samples=2)
    trainer = policy_trainer(tmp_path, "ctc", policy=policy, max_steps=10, learning_rate=1e-2, optim="adamw_torch")
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]


def test_without_a_reward_that_differs_nothing_moves(tmp_path: Path) -> None:
    trainer = policy_trainer(tmp_path, "ctc", reward=lambda *, completions, **_: [1.0] * len(completions))
    before = weights(trainer.model)
    trainer.train()
    assert all(weight.equal(before[name]) for name, weight in weights(trainer.model).items())


def test_the_update_is_that_of_the_formula(tmp_path: Path) -> None:
    """The mean over samples of −A ∇log p(y|x), by hand."""
    model = tiny_model("ctc").double()
    trainer = policy_trainer(tmp_path, "ctc", model=copy.deepcopy(model), max_steps=1)
    [batch] = trainer.get_batch_samples(iter([next(iter(trainer.get_train_dataloader()))]), 1, torch.device("cpu"))[0]
    known = batch["own_samples"]
    by_group = known["rewards"].view(-1, 3)
    advantage = (by_group - (by_group.sum(1, keepdim=True) - by_group) / 2).flatten()
    inputs = {name: batch[name].repeat_interleave(3, 0) for name in ("input_ids", "attention_mask")}
    log_prob = model(**inputs, labels=batch["labels"]).log_prob
    torch.testing.assert_close(known["behavior"], log_prob.detach(), rtol=1e-6, atol=1e-6)
    (-(advantage * log_prob).mean()).backward()
    before = weights(trainer.model)
    trainer.train()
    for name, weight in model.named_parameters():
        moved = before[name] - trainer.model.state_dict()[name]
        expected = torch.zeros_like(weight) if weight.grad is None else 0.1 * weight.grad
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-9)


def test_validation_is_maximum_likelihood_on_the_targets(tmp_path: Path) -> None:
    trainer = policy_trainer(tmp_path, "ctc")
    found = trainer.evaluate(examples(6, autoregressive=False, seed=1))
    assert found["eval_nll"] > 0


# Recipes


def policy_recipe(folder: Path, family: str, objective: dict[str, Any], *, stage: int = 1) -> Path:
    path = write_recipe(folder, family)
    content = yaml.safe_load(path.read_text())
    content["stages"][0]["training"] |= {"max_steps": 4, "eval_steps": 4}
    content["stages"][stage]["objective"] = objective
    content["stages"][1]["training"] |= {"max_steps": 2, "eval_steps": 2, "logging_steps": 1}
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_recipe_goes_on_with_a_policy(tmp_path: Path) -> None:
    path = policy_recipe(tmp_path, "ctc", {"name": "policy", "reward": "bleu", "samples": 2})
    result = run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None)
    assert result is not None
    assert '"reference_kl": 0.0' in (result.folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("family", "stage", "objective", "message"),
    [
        ("ctc", 0, {"name": "policy"}, "`policy` compares with the weights that the stage starts from"),
        ("cmlm", 1, {"name": "policy"}, "policy: a policy needs the probability of what it writes, and Cmlm has only"),
        ("latent_nat", 1, {"name": "policy"}, "policy: a policy needs the probability of what it writes"),
        ("ctc", 1, {"name": "policy", "reward": "chrff"}, "did you mean `chrf`?"),
        ("ctc", 1, {"name": "policy", "samples": 1}, "samples` must be at least 2 for this objective"),
        (
            "ctc",
            1,
            {"name": "policy", "objective": {"name": "policy_gradient", "ratio": "token"}},
            "policy: the loss reads the log-probability of each token",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    family: str, stage: int, objective: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"tiny.yaml:\d+: ") as raised:
        check_model(load_recipe(policy_recipe(tmp_path, family, objective, stage=stage)))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# Rewards that fail


def fails_on_a(*, completions: Sequence[str], **_: Any) -> list[float]:
    if any("a" in text for text in completions):
        raise RuntimeError("no a\nplease")
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (fails_on_a, r"the reward `fails_on_a` failed on the sample '.*a.*' of the prompt '.*' \(RuntimeError: no a p"),
        (lambda *, completions, **_: [0.0], r"must return one number for each of 24 completions; got 1, the first"),
        (lambda *, completions, **_: [float("nan")] * len(completions), r"must be a finite number; got nan for '"),
        (lambda *, completions, **_: ["good"] * len(completions), r"must be a finite number; got 'good' for '"),
        (lambda *, completions, **_: None, r"failed on the sample '.*' of the prompt '.*' \(TypeError"),
    ],
    ids=["raises", "too few", "nan", "words", "none"],
)
def test_a_reward_that_fails_is_one_line_with_the_sample(reward: Any, message: str, tmp_path: Path) -> None:
    trainer = policy_trainer(tmp_path, "ctc", reward=reward)
    with pytest.raises(UserError, match=message) as raised:
        trainer.train()
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_sampled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a policy needs the probability of what it writes, and Cmlm"):
        policy_trainer(tmp_path, "cmlm")


def test_samples_depend_on_seed_update_and_example_alone() -> None:
    model = tiny_model("ctc")
    loss = Policy(samples=2).loss(copy.deepcopy(model), lambda groups: [[0.0, 0.0] for _ in groups])
    data = examples(4, autoregressive=False)
    step = Step(progress=0.0, update=3, seed=1, is_training=True)
    whole = loss.prepare(model, collator_for(model)(data), step)
    part = loss.prepare(model, collator_for(model)(data[2:]), step)
    width = part["labels"].shape[1]
    assert whole["labels"][4:, :width].equal(part["labels"])
    other = loss.prepare(model, collator_for(model)(data), Step(progress=0.0, update=4, seed=1, is_training=True))
    assert not other["labels"].equal(whole["labels"])
