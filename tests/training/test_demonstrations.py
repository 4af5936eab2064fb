"""Learning from demonstrations with whole models: limits, the trainer's promises, and recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_pretrained import write_llama, write_pretrained_recipe
from tiny_recipe import write_recipe
from tiny_task import examples, tiny_model, trainer, weights
from transformers import AutoModelForCausalLM

from sharpseq import UserError, load_recipe, run_recipe
from sharpseq.data import EncodedExample
from sharpseq.decoding.teacher_forcing import token_id
from sharpseq.runs.checks import check_model
from sharpseq.training import AdversarialImitation, DirectionAgreement, SequenceMatch, Step, collator_for
from sharpseq.training.demonstrations import execute_backspaces, fit_discriminator, with_backspaces

STEP = Step(progress=0.0, update=0, seed=0, is_training=True)
BACKSPACE = 4


def target_logits(model: Any, example: EncodedExample, *, start: int | None = None) -> torch.Tensor:
    """Logits of each target token, from a forward pass of its own, (T, V)."""
    batch = collator_for(model)([example])
    del batch["labels"], batch["example_ids"]
    if start is not None:
        batch["decoder_input_ids"][0, 0] = start
    return model(**batch).logits[0]


def even(batch: Any) -> torch.Tensor:
    """A discriminator that likes rows whose sum is large."""
    return batch["labels"].clamp(min=0).sum(1).double() / 50


def test_mistakes_are_taken_back() -> None:
    counts = [0, 0]
    for example in examples(40, autoregressive=True):
        noisy, is_wrong = with_backspaces(
            example, backspace=BACKSPACE, vocab_size=15, rate=0.5, seed="a", forbidden=[0]
        )
        assert execute_backspaces(noisy.labels, backspace=BACKSPACE) == example.labels
        assert [noisy.labels[place + 1] for place, wrong in enumerate(is_wrong) if wrong] == [BACKSPACE] * sum(is_wrong)
        assert with_backspaces(example, backspace=4, vocab_size=15, rate=0.5, seed="a", forbidden=[0])[0] == noisy
        assert with_backspaces(example, backspace=4, vocab_size=15, rate=0.0, seed="a")[0] == example
        counts[0] += sum(is_wrong)
        counts[1] += len(example.labels) - 1
    # Draws of the right token, the backspace or EOS are no mistakes: 12 of 15 are left.
    assert counts[0] / counts[1] == pytest.approx(0.5 * 12 / 15, abs=0.1)


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_sequence_match_is_the_sum_by_hand(kind: str, tmp_path: Path) -> None:
    if kind == "seq2seq":
        model: Any = tiny_model("autoregressive").double().eval()
        data = examples(3, autoregressive=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(write_llama(tmp_path / "llama")).double().eval()
        data = [EncodedExample(number, [6, 7 + number], [8, 9, 10, 0][number:]) for number in range(3)]
    settings = SequenceMatch(alpha=2.0, discount=0.9, backspace_token_id=BACKSPACE, mistakes=0.6)
    loss = settings.loss()
    batch = loss.prepare(model, collator_for(model)(data), STEP)
    with torch.no_grad():
        output = loss(model, batch, STEP)
    rows = [[label for label in row if label >= 0] for row in batch["labels"].tolist()]
    flags = [[flag == 1 for flag in row if flag >= 0] for row in batch["wrong_tokens"].tolist()]
    assert any(map(any, flags[:3]))
    assert not any(map(any, flags[3:]))
    for number, example in enumerate(data):
        assert execute_backspaces(rows[number], backspace=BACKSPACE) == example.labels
        for place in (number, number + 3):
            labels = rows[place]
            with torch.no_grad():
                logits = target_logits(model, EncodedExample(0, example.input_ids, labels))
            if kind == "causal":
                logits = logits[len(example.input_ids) - 1 :]
            values = logits.logsumexp(-1)
            total = 0.0
            for t, label in enumerate(labels):
                is_last = t + 1 == len(labels)
                reward = logits[t, label] - (0.0 if is_last else 0.9 * values[t + 1])
                known = not is_last or label == 0
                if not flags[place][t]:
                    total += 0.9**t * known * float(reward) ** 2 / 16
                    if place < 3:
                        total -= 0.9**t * float(logits[t, label] - values[t])
            found = output.losses[number] if place < 3 else output.terms["own_samples"].values[number]
            assert found.item() == pytest.approx(total / len(labels), rel=1e-6)


def test_kl_without_mistakes_is_maximum_likelihood(tmp_path: Path) -> None:
    results = []
    for changes in ({}, {"objective": None, "loss": SequenceMatch("kl").loss()}):
        run = trainer(tmp_path, "autoregressive", **changes)
        run.train()
        results.append(weights(run.model))
    torch.testing.assert_close(*results)


def test_two_directions_are_the_sum_by_hand() -> None:
    model = tiny_model("autoregressive").double().eval()
    data = [*examples(3, autoregressive=True), EncodedExample(3, [5, 0], [0])]
    start = 3
    loss = DirectionAgreement(weight=0.5, backward_start_token_id=start).loss()
    batch = loss.prepare(model, collator_for(model)(data), STEP)
    with torch.no_grad():
        output = loss(model, batch, STEP)
        for number, example in enumerate(data):
            *tokens, end = example.labels
            forward = target_logits(model, example).log_softmax(-1)
            backward_labels = [*tokens[::-1], end]
            backward = target_logits(
                model, EncodedExample(0, example.input_ids, backward_labels), start=start
            ).log_softmax(-1)
            for logits, labels, found in (
                (forward, example.labels, output.losses),
                (backward, backward_labels, output.terms["backward"].values),
            ):
                nll = -logits[torch.arange(len(labels)), labels].mean()
                assert found[number].item() == pytest.approx(nll.item(), rel=1e-6)
            total = 0.0
            for place in range(len(tokens)):
                p, q = forward[place].exp(), backward[len(tokens) - 1 - place].exp()
                total += float(0.5 * ((p - q) * (p / q).log()).sum())
            expected = total / max(len(tokens), 1)
            assert output.terms["agreement"].values[number].item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert output.terms["agreement"].weight == 0.5
    assert token_id(model, "decoder_start") != start


def test_a_flip_without_a_shift_would_be_seen() -> None:
    """A model that says the same wherever it is agrees with itself; one that counts places does not, unless shifted."""
    model = tiny_model("autoregressive").double().eval()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    loss = DirectionAgreement(backward_start_token_id=3).loss()
    batch = loss.prepare(model, collator_for(model)(examples(2, autoregressive=True)), STEP)
    with torch.no_grad():
        assert loss(model, batch, STEP).terms["agreement"].values.abs().max() < 1e-12


def test_imitation_is_the_policy_gradient_by_hand() -> None:
    model = tiny_model("autoregressive").double().eval()
    data = examples(3, autoregressive=True)
    loss = AdversarialImitation("jensen_shannon", demonstration_weight=0.5).loss(even)
    batch = loss.prepare(model, collator_for(model)(data), STEP)
    with torch.no_grad():
        output = loss(model, batch, STEP)
    rows = [[label for label in row if label >= 0] for row in batch["labels"].tolist()]
    for number, example in enumerate(data):
        assert rows[number] == example.labels
        own, demonstration = (
            torch.sigmoid(torch.tensor(sum(rows[place]) / 50.0)).log() for place in (number + 3, number)
        )
        with torch.no_grad():
            logits = target_logits(model, EncodedExample(0, example.input_ids, rows[number + 3])).log_softmax(-1)
        log_prob = logits[torch.arange(len(rows[number + 3])), rows[number + 3]].sum()
        assert output.losses[number].item() == pytest.approx(float(-(own - demonstration) * log_prob), rel=1e-5)
    assert output.terms["demonstrations"].weight == 0.5


def test_a_discriminator_tells_demonstrations_from_samples() -> None:
    model = tiny_model("autoregressive").double()
    data = [EncodedExample(number, [5 + number % 10, 0], [7, 7, 7, 0]) for number in range(24)]
    found, again = (fit_discriminator(copy.deepcopy(model), data, penalty=0.1) for _ in range(2))
    batch = collator_for(model)(data)
    others = collator_for(model)(examples(24, autoregressive=True))
    assert found(batch).mean() > 1 > 0 > found(others).mean()
    assert torch.equal(found(batch), again(batch))
    with pytest.raises(ValueError, match="`demonstrations` must hold at least one example"):
        fit_discriminator(model, [])
    with pytest.raises(ValueError, match="`penalty` must be greater than 0"):
        fit_discriminator(model, data, penalty=0.0)


LOSSES = {
    # Samples of a batch depend on its rows: only what is not sampled is the same however it is split.
    "sequence_match": lambda: SequenceMatch("chi2", backspace_token_id=BACKSPACE, mistakes=0.3).loss(),
    "direction_agreement": lambda: DirectionAgreement(backward_start_token_id=3).loss(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_accumulation_gives_the_same_update(name: str, tmp_path: Path) -> None:
    results = []
    for batch_size, steps in ((4, 1), (2, 2), (1, 4)):
        run = trainer(
            tmp_path,
            "autoregressive",
            objective=None,
            loss=LOSSES[name](),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        run.train()
        results.append(weights(run.model))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_a_resumed_training_on_own_samples_ends_with_the_same_bits(tmp_path: Path) -> None:
    def run(folder: str) -> Any:
        return trainer(
            tmp_path / folder,
            "autoregressive",
            objective=None,
            loss=SequenceMatch().loss(),
            dropout=0.1,
            max_steps=4,
            save_strategy="steps",
            save_steps=2,
        )

    # A new trainer sets the seed.
    straight = run("straight")
    straight.train()
    run("broken").train()
    resumed = run("broken")
    resumed.train(str(tmp_path / "broken" / "checkpoint-2"))
    assert all(torch.equal(each, straight.model.state_dict()[name]) for name, each in weights(resumed.model).items())


# Recipes


def changed(path: Path, objective: Any, *, stage: int = 1) -> Path:
    content = yaml.safe_load(path.read_text())
    content["stages"][stage]["objective"] = objective
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "objective", [{"name": "sequence_match", "backspace_token_id": 5}, {"name": "adversarial_imitation"}], ids=str
)
def test_a_recipe_of_a_language_model_runs(objective: dict[str, Any], tmp_path: Path) -> None:
    path = changed(write_pretrained_recipe(tmp_path, write_llama(tmp_path / "llama")), objective)
    assert run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None) is not None


def test_a_recipe_of_two_directions_runs(tmp_path: Path) -> None:
    weight = {"schedule": "warm_up", "value": 1.0, "until": 0.5}
    path = changed(write_recipe(tmp_path, "autoregressive"), {"name": "direction_agreement", "weight": weight})
    assert run_recipe(load_recipe(path), tmp_path / "run", say=lambda line: None) is not None


@pytest.mark.parametrize(
    ("family", "stage", "objective", "message"),
    [
        ("ctc", 1, "sequence_match", "needs a model that writes one token after the other"),
        ("ctc", 1, "direction_agreement", "needs a seq2seq model"),
        ("vanilla_nat", 1, "adversarial_imitation", "own samples would change nothing"),
        ("autoregressive", 0, "adversarial_imitation", "and these are random"),
        ("autoregressive", 1, {"name": "sequence_match", "alpha": 0}, "`stages.1.objective.alpha` must be greater"),
        ("autoregressive", 1, {"name": "sequence_match", "mistakes": 1.0}, "`stages.1.objective.mistakes` must be in"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(
    family: str, stage: int, objective: Any, message: str, tmp_path: Path
) -> None:
    path = changed(write_recipe(tmp_path, family), objective, stage=stage)
    with pytest.raises(UserError, match=r"tiny.yaml:\d+: ") as raised:
        check_model(load_recipe(path))
    assert message in str(raised.value)
