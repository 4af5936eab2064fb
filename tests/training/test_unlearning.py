"""Unlearning of whole models: the loss against sums by hand, the trainer's promises, and recipes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_pretrained import tiny_tokenizer, write_llama, write_pretrained_recipe
from tiny_recipe import write_recipe
from tiny_task import FEW_UPDATES, examples, tiny_model, weights
from transformers import AutoModelForCausalLM

from sharpseq import SequenceTrainingArguments, UnlearningTrainer, UserError, load_recipe, run_recipe
from sharpseq.data import EncodedExample
from sharpseq.divergences import JensenShannon
from sharpseq.models.adapters import add_lora
from sharpseq.objectives.unlearning import Flat, GradientAscent, NegativePreference
from sharpseq.runs.checks import check_model
from sharpseq.training import Step, Unlearning, collator_for
from sharpseq.training.distillation import AdapterBaseTeacher, ModelTeacher
from sharpseq.training.unlearning import AnswerPool, encode_templates, retained_examples

TEMPLATES = [[5, 6, 0], [7, 0]]
STEP = Step(progress=0.0, update=0, seed=0, is_training=True)
METHODS = [
    Unlearning(Flat()),
    Unlearning(Flat(JensenShannon()), retained="likelihood", retained_weight=0.5),
    Unlearning(GradientAscent(), retained="kl"),
    Unlearning(NegativePreference(), retained="kl"),
]


def forget(count: int = 12) -> list[EncodedExample]:
    return examples(count, autoregressive=True)


def retained() -> list[EncodedExample]:
    return retained_examples(examples(20, autoregressive=True, seed=1), forget())


def trainer(folder: Path, unlearning: Unlearning, **changes: Any) -> UnlearningTrainer:
    own = {name: changes.pop(name) for name in ("model", "train_dataset", "templates", "retained") if name in changes}
    settings = {
        **FEW_UPDATES,
        "learning_rate": 0.1,
        "per_device_train_batch_size": 4,
        **changes,
    }
    return UnlearningTrainer(
        own.pop("model", None) or tiny_model("autoregressive").double(),
        SequenceTrainingArguments(output_dir=str(folder), **settings),
        unlearning=unlearning,
        **{"train_dataset": forget(), "templates": TEMPLATES, "retained": retained(), **own},
    )


def log_probs(model: Any, example: EncodedExample) -> torch.Tensor:
    """Log-probabilities of one example's target, from the logits of a forward pass of its own; (T,) and (T, V)."""
    batch = collator_for(model)([example])
    labels = batch.pop("labels")[0]
    del batch["example_ids"]
    return model(**batch).logits[0].log_softmax(-1), labels


@pytest.mark.parametrize("retained_term", ["none", "likelihood", "kl"])
def test_the_loss_is_the_sum_by_hand(retained_term: str) -> None:
    model, reference = (tiny_model("autoregressive").double().eval() for _ in range(2))
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    pool = AnswerPool(TEMPLATES, retained())
    for method in (Flat(), NegativePreference(beta=0.3)):
        settings = Unlearning(method, retained=retained_term, retained_weight=0.25)
        loss = settings.loss(pool, ModelTeacher(reference))
        batch = loss.prepare(model, collator_for(model)(forget(3)), STEP)
        with torch.no_grad():
            output = loss(model, batch, STEP)
        assert output.num_tokens.tolist() == [len(example.labels) for example in forget(3)]
        assert len(output.losses) == 3
        rows = batch["labels"].tolist()
        for index, example in enumerate(forget(3)):
            own, labels = log_probs(model, example)
            places = torch.arange(len(labels))
            if isinstance(method, Flat):
                answer = [label for label in rows[3 + index] if label >= 0]
                assert answer in TEMPLATES
                said, wanted = log_probs(model, EncodedExample(0, example.input_ids, answer))
                template = said[torch.arange(len(wanted)), wanted].exp().mean()
                expected = torch.exp(own[places, labels].exp().mean() - 1) - template
            else:
                ratio = (own - log_probs(reference, example)[0])[places, labels].sum()
                expected = 2 / 0.3 * torch.log1p(torch.exp(0.3 * ratio)) / len(labels)
            assert output.losses[index].item() == pytest.approx(expected.item(), rel=1e-6)
            if retained_term != "none":
                ids = [token for token in batch["input_ids"][-3 + index].tolist() if token != 1]
                kept = next(each for each in retained() if each.input_ids == ids)
                own, labels = log_probs(model, kept)
                other = log_probs(reference, kept)[0]
                expected = -own[torch.arange(len(labels)), labels].mean()
                if retained_term == "kl":
                    expected = (other.exp() * (other - own)).sum(-1).mean()
                assert output.terms["retained"].values[index].item() == pytest.approx(expected.item(), rel=1e-6)
                assert output.terms["retained"].weight == 0.25


@pytest.mark.parametrize("unlearning", METHODS, ids=str)
def test_accumulation_gives_the_same_update(unlearning: Unlearning, tmp_path: Path) -> None:
    results = []
    for batch_size, steps in ((4, 1), (2, 2), (1, 4)):
        run = trainer(tmp_path, unlearning, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps)
        run.train()
        results.append((weights(run.model), [row["loss"] for row in run.state.log_history if "loss" in row]))
    start = weights(tiny_model("autoregressive").double())
    assert any(not torch.equal(start[name], results[0][0][name]) for name in start)
    for other, log in results[1:]:
        torch.testing.assert_close(other, results[0][0])
        assert log == pytest.approx(results[0][1])


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    def run(folder: str, **changes: Any) -> UnlearningTrainer:
        model = tiny_model("autoregressive", dropout=0.1)
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch", **changes}
        return trainer(tmp_path / folder, METHODS[3], model=model, **settings)

    straight = run("straight")
    straight.train()
    run("broken").train()
    resumed = run("broken")
    resumed.train(str(tmp_path / "broken" / "checkpoint-2"))
    assert all(torch.equal(each, straight.model.state_dict()[name]) for name, each in weights(resumed.model).items())


def test_flat_forgets_and_says_so(tmp_path: Path) -> None:
    run = trainer(tmp_path, Unlearning(), max_steps=60, learning_rate=1e-2, optim="adamw_torch")
    run.train()
    logs = [row for row in run.state.log_history if "forget_probability" in row]
    assert logs[-1]["forget_probability"] < logs[0]["forget_probability"] * 0.7
    assert logs[-1]["template_nll"] < logs[0]["template_nll"] - 0.2


def test_validation_is_the_likelihood_of_other_examples(tmp_path: Path) -> None:
    run = trainer(tmp_path, Unlearning())
    run.eval_dataset = retained()[:3]
    with torch.no_grad():
        pairs = [log_probs(run.model.eval(), each) for each in retained()[:3]]
    total = sum(-own[torch.arange(len(labels)), labels].sum() for own, labels in pairs)
    assert run.evaluate()["eval_nll"] == pytest.approx(float(total / sum(len(labels) for _, labels in pairs)))


def test_the_reference_is_the_model_before_unlearning(tmp_path: Path) -> None:
    write_llama(tmp_path / "llama")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "llama")
    adapted = add_lora(copy.deepcopy(plain), r=2)
    kl = Unlearning(GradientAscent(), retained="kl")
    data = {"train_dataset": [EncodedExample(0, [5, 6], [7, 0])], "retained": [EncodedExample(0, [8, 9], [10, 11, 0])]}
    fresh = trainer(tmp_path / "a", kl, model=adapted, **data)
    assert isinstance(fresh.loss.reference, AdapterBaseTeacher)
    copied = trainer(tmp_path / "b", kl, model=copy.deepcopy(plain), **data)
    assert isinstance(copied.loss.reference, ModelTeacher)
    assert copied.loss.reference.model is not copied.model
    for run in (fresh, copied):
        run.train()
        figures = [row["retained_kl"] for row in run.state.log_history if "retained_kl" in row]
        assert figures[0] == pytest.approx(0, abs=1e-6)
        assert figures[-1] > 1e-5
    # Adapters that have learned something are part of the model before unlearning.
    again = trainer(tmp_path / "c", kl, model=fresh.model, **data)
    assert isinstance(again.loss.reference, ModelTeacher)
    assert Unlearning(GradientAscent()).reads_reference is False


def test_a_one_pass_model_forgets_too(tmp_path: Path) -> None:
    data = {"train_dataset": examples(6, autoregressive=False), "templates": [[5], [6, 7]]}
    run = trainer(tmp_path, Unlearning(), model=tiny_model("vanilla_nat").double(), **data)
    run.train()
    assert run.state.log_history[0]["forget_probability"] > 0


@pytest.mark.parametrize(
    ("unlearning", "changes", "message"),
    [
        (Unlearning(), {"train_dataset": []}, "there are no examples to forget; give at least one"),
        (Unlearning(), {"templates": []}, "there are no template answers"),
        (Unlearning(retained="likelihood"), {"retained": []}, "there are no retained examples, which `retained` reads"),
        (Unlearning(), {"templates": [[8, 0], forget()[2].labels]}, "example 2 to forget .* has a template as its an"),
        (Unlearning(retained="kl"), {"retained": forget()[4:5]}, "retained example 4 has the prompt of example 4"),
    ],
)
def test_data_that_do_not_fit_are_one_line(
    unlearning: Unlearning, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, unlearning, **changes)


def test_templates_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    assert encode_templates(["No."], tokenizer, append_eos_to_target=True)[0][-1] == tokenizer.eos_token_id
    with pytest.raises(UserError, match="the tokenizer cannot write the template 'Né'"):
        encode_templates(["Né"], tokenizer, append_eos_to_target=True)
    with pytest.raises(UserError, match="a template answer is empty"):
        encode_templates([" "], tokenizer, append_eos_to_target=True)
    with pytest.raises(ValueError, match="`processing_class` must be the tokenizer"):
        trainer(tmp_path, Unlearning(), templates=["No."])
    with pytest.raises(ValueError, match="`reference` must be given"):
        Unlearning(NegativePreference()).loss(AnswerPool())
    with pytest.raises(ValueError, match="`retained` must be none, likelihood or kl; got 'all'"):
        Unlearning(retained="all")  # type: ignore[arg-type]


# Recipes


def forgetting(path: Path, objective: Any, section: Any, *, stage: int = 1) -> Path:
    content = yaml.safe_load(path.read_text())
    content["stages"][stage] |= {"objective": objective, "start_from": content["stages"][0]["name"]}
    if stage == 0:
        del content["stages"][0]["start_from"]
    content["stages"][stage]["training"] |= {"logging_steps": 1}
    if section is not None:
        content["stages"][stage]["forget"] = section
    content["data"]["test"]["forgotten"] = {"type": "tsv", "path": "train.tsv", "limit": 5}
    path.write_text(yaml.safe_dump(content))
    return path


FIRST = {"data": {"type": "tsv", "path": "train.tsv", "limit": 5}, "templates": ["hhh"]}


@pytest.mark.parametrize("retained_term", ["none", "kl"])
def test_a_recipe_with_adapters_forgets(retained_term: str, tmp_path: Path) -> None:
    path = write_pretrained_recipe(tmp_path, write_llama(tmp_path / "llama"))
    objective = {"name": "unlearning", "method": {"name": "flat", "divergence": "le_cam"}, "retained": retained_term}
    lines: list[str] = []
    result = run_recipe(load_recipe(forgetting(path, objective, FIRST)), tmp_path / "run", say=lines.append)
    assert result is not None
    assert set(result.results) == {"validation", "test", "forgotten"}
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "forget_nll" in row]
    assert all(row["stage"] == "second" for row in logged)
    assert ("retained_kl" in logged[0]) == (retained_term == "kl")
    if retained_term == "kl":
        # Of the weights that the stage starts from, adapters included.
        assert logged[0]["retained_kl"] == pytest.approx(0, abs=1e-3)
        assert any("115 training examples to retain, 5 left out" in line for line in lines), lines


def test_a_recipe_of_our_own_models_forgets(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "autoregressive")
    result = run_recipe(load_recipe(forgetting(path, "unlearning", FIRST)), tmp_path / "run", say=lambda line: None)
    assert result is not None


@pytest.mark.parametrize(
    ("family", "stage", "objective", "section", "message"),
    [
        ("autoregressive", 1, "unlearning", None, "`unlearning` forgets the examples of `forget`; add it"),
        ("autoregressive", 0, "unlearning", FIRST, "`unlearning` starts from weights that know something"),
        ("autoregressive", 1, "maximum_likelihood", FIRST, "`forget` goes with `objective: {name: unlearning}` only"),
        ("ctc", 1, "unlearning", FIRST, "unlearning: the loss reads the log-probability of each token"),
        (
            "autoregressive",
            1,
            {"name": "unlearning", "method": {"name": "flat", "divergence": "renyi"}},
            FIRST,
            "must be an f-divergence, the only ones with a conjugate",
        ),
        ("autoregressive", 1, "unlearning", {"data": FIRST["data"], "templates": []}, "templates"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(
    family: str, stage: int, objective: Any, section: Any, message: str, tmp_path: Path
) -> None:
    path = forgetting(write_recipe(tmp_path, family), objective, section, stage=stage)
    with pytest.raises(UserError, match=r"tiny.yaml:\d+: ") as raised:
        check_model(load_recipe(path))
    assert message in str(raised.value)


def test_missing_data_are_found_before_anything_is_written(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "autoregressive")
    forgetting(path, "unlearning", {"data": {"type": "tsv", "path": "no.tsv"}})
    with pytest.raises(UserError, match=r"no\.tsv"):
        run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None)
    (tmp_path / "no.tsv").write_text("")
    with pytest.raises(UserError, match="there are no examples to forget; give data"):
        run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()
