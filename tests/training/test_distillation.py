"""Distillation: a student follows a teacher, beside it or stored, at every kind of position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import SIZES, examples, tiny_model, weights
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sharpseq import SequenceTrainer, SequenceTrainingArguments
from sharpseq.data import EncodedExample, train_tokenizer
from sharpseq.divergences import KL
from sharpseq.errors import UserError
from sharpseq.models import MODELS
from sharpseq.objectives.distillation import PlackettLuce, SinkhornDistillation
from sharpseq.scoring import ScoreRequest, score_model
from sharpseq.training import LOSSES, Step, collator_for
from sharpseq.training.distillation import Distillation, ModelTeacher, StoredTeacher, TeacherStore, teach
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.distillation.teachers import mixed_with

FORWARD_KL = KL()
STEP = Step(progress=0.5, update=1, seed=1, is_training=True)
FAMILIES = ["autoregressive", "vanilla_nat", "cmlm", "ctc", "dag", "latent_nat"]


def tokenizer() -> Any:
    return train_tokenizer(["abcdefghij"], kind="characters")


def model(family: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    if family == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=15, max_position_embeddings=40, **sizes)).eval()
    spec = MODELS[family]
    return spec.model(spec.config(vocab_size=15, dropout=0.0, **SIZES)).eval()


def corpus(family: str, count: int = 12) -> list[EncodedExample]:
    return examples(count, autoregressive=family in ("autoregressive", "llama"))


def batch_for(family: str, count: int = 4) -> dict[str, Any]:
    return collator_for(model(family))(corpus(family, count))


def loss_of(settings: Distillation, teacher: Any, student: PreTrainedModel, batch: dict[str, Any]) -> Any:
    return settings.loss(teacher)(student, batch, STEP)


def expected_kl(teacher: PreTrainedModel, student: PreTrainedModel, batch: dict[str, Any]) -> torch.Tensor:
    """The mean over the positions of each sequence, from all logits of both."""
    request = ScoreRequest(hidden_states=True)
    inputs = {name: value for name, value in batch.items() if name != "example_ids"}
    found = [score_model(one, inputs, request=request).positions for one in (teacher, student)]
    p, q = (positions.head(positions.hidden_states.flatten(0, 1)).log_softmax(-1) for positions in found)
    mask = found[0].mask
    return ((p.exp() * (p - q)).sum(-1).view(mask.shape) * mask).sum(1) / mask.sum(1)


@pytest.mark.parametrize("family", ["autoregressive", "vanilla_nat", "ctc", "llama"])
def test_the_loss_is_the_mean_divergence_over_positions(family: str) -> None:
    teacher, student, batch = model(family, 1), model(family), batch_for(family)
    output = loss_of(Distillation(FORWARD_KL), ModelTeacher(teacher), student, batch)
    torch.testing.assert_close(output.losses, expected_kl(teacher, student, batch))
    output.losses.sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in student.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("family", [*FAMILIES, "llama"])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(family: str) -> None:
    torch.manual_seed(0)
    output = loss_of(Distillation(FORWARD_KL), ModelTeacher(model(family)), model(family), batch_for(family))
    if family in ("cmlm", "latent_nat"):  # what is masked or drawn differs between the two forward passes
        assert output.losses.isfinite().all()
    else:
        torch.testing.assert_close(output.losses, torch.zeros(4), atol=1e-6, rtol=0)


def test_a_mixture_with_the_gold_targets_is_the_weighted_sum() -> None:
    teacher, student, batch = (
        ModelTeacher(model("autoregressive", 1)),
        model("autoregressive"),
        batch_for("autoregressive"),
    )
    alone, gold, mixed = (
        loss_of(Distillation(FORWARD_KL, gold_weight=weight), teacher, student, batch).losses for weight in (0, 1, 0.25)
    )
    torch.testing.assert_close(mixed, 0.75 * alone + 0.25 * gold)
    scores = score_model(student, {name: value for name, value in batch.items() if name != "example_ids"})
    torch.testing.assert_close(gold, -scores.normalized_log_prob())


@pytest.mark.parametrize("first", [None, 7])
def test_an_autoregressive_teacher_guides_a_one_pass_student_of_target_tokens(first: int | None) -> None:
    teacher, student, batch = model("autoregressive", 1), model("vanilla_nat"), batch_for("vanilla_nat")
    teacher.generation_config.forced_bos_token_id = first
    loss = loss_of(Distillation(FORWARD_KL), ModelTeacher(teacher), student, batch)
    with_inputs = {**batch, "decoder_input_ids": torch.roll(batch["labels"], 1, 1)}
    with_inputs["decoder_input_ids"][:, 0] = teacher.config.decoder_start_token_id
    with_inputs["decoder_input_ids"].masked_fill_(with_inputs["decoder_input_ids"] == -100, 1)
    if first is not None:
        start, rest = with_inputs["decoder_input_ids"].split([1, batch["labels"].shape[1] - 1], dim=1)
        with_inputs["decoder_input_ids"] = torch.cat([start, torch.full_like(start, first), rest], dim=1)
    logits = teacher(
        **{name: value for name, value in with_inputs.items() if name not in ("example_ids", "labels")}
    ).logits[:, 0 if first is None else 1 :]
    scored = batch["labels"] != -100
    p = logits.log_softmax(-1)
    inputs = {name: value for name, value in batch.items() if name != "example_ids"}
    positions = score_model(student, inputs, request=ScoreRequest(hidden_states=True)).positions
    q = positions.head(positions.hidden_states).log_softmax(-1)
    expected = ((p.exp() * (p - q)).sum(-1) * scored).sum(1) / scored.sum(1)
    torch.testing.assert_close(loss.losses, expected)


def test_other_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="must predict at the same positions"):
        loss_of(Distillation(FORWARD_KL), ModelTeacher(model("autoregressive", 1)), model("ctc"), batch_for("ctc"))


def test_frames_have_no_target_token() -> None:
    with pytest.raises(ValueError, match="frames of CTC have none"):
        loss_of(Distillation(PlackettLuce()), ModelTeacher(model("ctc", 1)), model("ctc"), batch_for("ctc"))


@pytest.mark.parametrize("family", ["autoregressive", "vanilla_nat", "ctc", "llama"])
def test_a_store_of_the_whole_vocabulary_gives_what_the_teacher_gives(family: str, tmp_path: Path) -> None:
    teacher, student, batch = model(family, 1), model(family), batch_for(family)
    report = teach(teacher, tokenizer(), corpus(family), tmp_path / "store", k=15, dtype="float32")
    assert (report.num_examples, report.num_resumed) == (12, 0)
    stored = StoredTeacher(TeacherStore(tmp_path / "store"))
    for method in (FORWARD_KL,) if family == "ctc" else (FORWARD_KL, PlackettLuce()):
        online = loss_of(Distillation(method), ModelTeacher(teacher), student, batch)
        torch.testing.assert_close(loss_of(Distillation(method), stored, student, batch).losses, online.losses)


def test_positions_of_a_stored_top_k_cannot_be_compared_with_each_other(tmp_path: Path) -> None:
    teach(model("ctc", 1), tokenizer(), corpus("ctc"), tmp_path / "store", k=3)
    with pytest.raises(ValueError, match="every position has other tokens; give the teacher itself"):
        loss_of(
            Distillation(SinkhornDistillation()),
            StoredTeacher(TeacherStore(tmp_path / "store")),
            model("ctc"),
            batch_for("ctc"),
        )


def test_a_smaller_store_is_a_lower_bound_and_half_precision_is_close(tmp_path: Path) -> None:
    teacher, student, batch = model("autoregressive", 1), model("autoregressive"), batch_for("autoregressive")
    previous = torch.zeros(4)
    for k in (1, 4, 15):
        teach(teacher, tokenizer(), corpus("autoregressive"), tmp_path / str(k), k=k)
        stored = StoredTeacher(TeacherStore(tmp_path / str(k)))
        found = loss_of(Distillation(FORWARD_KL), stored, student, batch).losses
        assert (found >= previous - 1e-3).all()
        previous = found.detach()
    torch.testing.assert_close(found, expected_kl(teacher, student, batch), atol=2e-3, rtol=0)


def test_an_interrupted_teaching_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpseq.training.distillation import teaching

    monkeypatch.setattr(teaching, "_EXAMPLES_PER_PART", 5)
    teacher, data = model("autoregressive", 1), corpus("autoregressive")
    teach(teacher, tokenizer(), data, tmp_path / "whole", k=3)

    def stop(done: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(teacher, tokenizer(), data, tmp_path / "store", k=3, on_progress=stop)
    with pytest.raises(UserError, match=r"part-00002\.safetensors is missing"):
        TeacherStore(tmp_path / "store")
    assert teach(teacher, tokenizer(), data, tmp_path / "store", k=3).num_resumed == 10
    for file in sorted((tmp_path / "whole").iterdir()):
        assert file.read_bytes() == (tmp_path / "store" / file.name).read_bytes()


def test_a_store_knows_what_it_was_made_from(tmp_path: Path) -> None:
    teacher, data, folder = model("autoregressive", 1), corpus("autoregressive"), tmp_path / "store"
    teach(teacher, tokenizer(), data, folder, k=3)
    for change in ({"k": 4}, {"temperature": 2.0}, {"dtype": "float32"}):
        with pytest.raises(UserError, match=f"its {next(iter(change))} differ"):
            teach(teacher, tokenizer(), data, folder, **{"k": 3, **change})
    with pytest.raises(UserError, match="its teacher differ"):
        teach(model("autoregressive", 2), tokenizer(), data, folder, k=3)
    with pytest.raises(UserError, match="its data and num_examples differ"):
        teach(teacher, tokenizer(), data[:-1], folder, k=3)
    store = TeacherStore(folder)
    with pytest.raises(UserError, match=r"for 1 of 2 training examples, first for example 1 \(counted from 0\)"):
        store.check_examples([next(iter(store._places)), 7], of="training")
    with pytest.raises(ValueError, match="`temperature` must be 1, at which"):
        loss_of(Distillation(FORWARD_KL, temperature=2.0), StoredTeacher(store), teacher, batch_for("autoregressive"))


def test_broken_stores_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(UserError, match="is no teacher's store"):
        TeacherStore(folder)
    teach(model("autoregressive", 1), tokenizer(), corpus("autoregressive"), folder, k=3)
    part = folder / "part-00000.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"part-00000\.safetensors is broken; run the same `sharpseq teach` again"):
        TeacherStore(folder)
    assert teach(model("autoregressive", 1), tokenizer(), corpus("autoregressive"), folder, k=3).num_resumed == 0
    assert part.read_bytes() == whole
    (folder / "store.json").write_text("{}")
    with pytest.raises(UserError, match=r"store\.json is broken"):
        TeacherStore(folder)
    (folder / "store.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"store\.json is broken"):
        TeacherStore(folder)


def test_a_store_in_float16_serves_a_student_that_trains_in_bfloat16(tmp_path: Path) -> None:
    teach(model("autoregressive", 1), tokenizer(), corpus("autoregressive"), tmp_path, k=3)
    batch, student = batch_for("autoregressive"), model("autoregressive")
    stored = StoredTeacher(TeacherStore(tmp_path))
    expected = stored.targets(student, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = stored.targets(student, batch)
    assert torch.equal(found.log_probs, expected.log_probs)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UserError, match="is there and no teacher's store"):
        teach(model("autoregressive", 1), tokenizer(), corpus("autoregressive"), tmp_path / "other", k=3)


def test_probabilities_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "store"
    teach(model("autoregressive", 1), tokenizer(), corpus("autoregressive"), folder, k=3)
    part = folder / "part-00000.safetensors"
    tensors = load_file(part)
    for tail in (torch.zeros_like(tensors["tail"]), torch.full_like(tensors["tail"], torch.nan)):
        save_file({**tensors, "tail": tail}, part)
        store = TeacherStore(folder)
        with pytest.raises(UserError, match="do not sum to 1"):
            store.rows(next(iter(store._places)))


@pytest.mark.parametrize(
    ("k", "temperature", "message"), [(0, 1, "`k` must be in"), (16, 1, "`k` must be in"), (3, 0, "`temperature` must")]
)
def test_impossible_numbers_are_refused(k: int, temperature: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        teach(model("ctc"), tokenizer(), corpus("ctc"), tmp_path / "store", k=k, temperature=temperature)


def train(
    folder: Path, family: str, *, settings: Distillation | None = None, **changes: Any
) -> dict[str, torch.Tensor]:
    student = tiny_model(family).double()
    arguments = {"max_steps": 3, "learning_rate": 1e-2, "optim": "sgd", "report_to": "none", "disable_tqdm": True}
    arguments |= {"save_strategy": "no", "max_grad_norm": 0.0, "use_cpu": True, **changes}
    loss = (settings or Distillation(FORWARD_KL, gold_weight=0.5)).loss(ModelTeacher(model(family, 1).double()))
    trainer = SequenceTrainer(
        student,
        SequenceTrainingArguments(output_dir=str(folder), **arguments),
        loss=loss,
        train_dataset=corpus(family, 24),
    )
    trainer.train()
    return weights(student)


@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
def test_accumulation_does_not_change_the_update(tmp_path: Path, reduction: str) -> None:
    whole = train(tmp_path, "autoregressive", per_device_train_batch_size=8, reduction=reduction)
    for size, accumulation in ((4, 2), (1, 8)):
        parts = train(
            tmp_path,
            "autoregressive",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            reduction=reduction,
        )
        for name, weight in whole.items():
            torch.testing.assert_close(parts[name], weight, atol=1e-12, rtol=0)


def test_a_student_comes_to_follow_its_teacher(tmp_path: Path) -> None:
    student, teacher = tiny_model("autoregressive"), model("autoregressive", 1)
    arguments = SequenceTrainingArguments(
        output_dir=str(tmp_path), max_steps=60, learning_rate=2e-2, report_to="none", disable_tqdm=True, use_cpu=True,
        save_strategy="no", per_device_train_batch_size=24,
    )  # fmt: skip
    trainer = SequenceTrainer(
        student, arguments, loss=Distillation(FORWARD_KL).loss(ModelTeacher(teacher)),
        train_dataset=corpus("autoregressive", 24), eval_dataset=corpus("autoregressive", 24),
    )  # fmt: skip
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_divergence"] < 0.3 * before["eval_divergence"]


def test_it_is_a_loss_that_recipes_can_name() -> None:
    assert LOSSES["distillation"] is Distillation


@pytest.mark.parametrize("family", ["autoregressive", "llama"])
def test_own_samples_replace_the_targets_of_a_share_of_the_examples(family: str) -> None:
    student, batch = model(family), batch_for(family, 12)
    seen = set()
    for share, expected in ((0.0, 0), (1.0, 12), (0.5, None)):
        found = with_own_samples(student, batch, share=share, temperature=1.0, seed="a")
        again = with_own_samples(student, batch, share=share, temperature=1.0, seed="a")
        assert found["labels"].equal(again["labels"])
        changed = [targets(one) != targets(other) for one, other in zip(found["labels"], batch["labels"], strict=True)]
        assert expected is None or sum(changed) >= expected - 1  # a sample may be its target by chance
        seen.add(sum(changed))
        if family == "llama":
            assert found["input_ids"].masked_select(found["labels"] != -100).tolist() == [
                token for row in found["labels"] for token in targets(row)
            ]
            prompts = (found["input_ids"] * (found["labels"] == -100) * found["attention_mask"]).sum(1)
            assert prompts.equal((batch["input_ids"] * (batch["labels"] == -100) * batch["attention_mask"]).sum(1))
        else:
            assert found["decoder_input_ids"][:, 0].eq(student.config.decoder_start_token_id).all()
            shifted = found["labels"][:, :-1].masked_fill(found["labels"][:, :-1] == -100, student.config.pad_token_id)
            assert found["decoder_input_ids"][:, 1:].equal(shifted)
    assert len(seen) == 3
    assert student.training is False


def targets(labels: torch.Tensor) -> list[int]:
    return labels[labels != -100].tolist()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_samples_begin_with_the_forced_token_whatever_the_teacher_says(share: float) -> None:
    student, teacher, batch = model("autoregressive"), model("autoregressive", 1), batch_for("autoregressive", 12)
    student.generation_config.forced_bos_token_id = 7
    helper = mixed_with(ModelTeacher(teacher), share) if share else None
    found = with_own_samples(student, batch, share=1.0, temperature=1.0, seed="a", helper=helper)
    assert found["labels"][:, 0].tolist() == [7] * 12


def test_samples_follow_the_models_distribution() -> None:
    student = model("autoregressive")
    [example] = corpus("autoregressive", 1)
    many = [EncodedExample(index, example.input_ids, example.labels) for index in range(4000)]
    batch = collator_for(student)(many)
    found = with_own_samples(student, batch, share=1.0, temperature=2.0, seed="a")["labels"][:, 0]
    inputs = {name: batch[name][:1] for name in ("input_ids", "attention_mask")}
    logits = student(**inputs, decoder_input_ids=batch["decoder_input_ids"][:1, :1]).logits[0, 0]
    expected = (logits / 2).softmax(-1)
    observed = torch.bincount(found, minlength=15) / len(found)
    assert (observed - expected).abs().sum() / 2 < 0.05
    assert (observed - logits.softmax(-1)).abs().sum() / 2 > 0.1


def test_a_one_pass_student_has_no_use_for_own_samples() -> None:
    with pytest.raises(ValueError, match="`own_samples` must be 0: a one-pass student"):
        with_own_samples(model("ctc"), batch_for("ctc"), share=1.0, temperature=1.0, seed="a")


def test_training_on_own_samples_changes_what_is_compared(tmp_path: Path) -> None:
    trained = {
        share: train(tmp_path, "autoregressive", settings=Distillation(FORWARD_KL, own_samples=share))
        for share in (0.0, 1.0)
    }
    again = train(tmp_path, "autoregressive", settings=Distillation(FORWARD_KL, own_samples=1.0))
    assert all(weight.equal(trained[1.0][name]) for name, weight in again.items())
    assert any(not weight.equal(trained[1.0][name]) for name, weight in trained[0.0].items())
