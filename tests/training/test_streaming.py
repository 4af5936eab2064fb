"""Training on a stream: everything once an epoch, the same after a break, and never held whole."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipe import write_recipe
from tiny_task import SIZES, trainer, weights

from sharpseq import SequenceTrainer, UserError, load_recipe, run_recipe
from sharpseq.data import Example, StreamingBatches, encode, load_tokenizer, train_tokenizer
from sharpseq.models import MODELS
from sharpseq.runs import building, run
from sharpseq.training.endless_stream import EndlessStream
from sharpseq.training.progress import read_metrics

TOKENIZER = train_tokenizer(["abcdefgh"], kind="characters")
STREAMED = ["data.stream=true", "stages.0.training.max_steps=6", "stages.1.training.max_steps=2"]


def corpus(count: int = 60) -> list[Example]:
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefgh", k=generator.randint(2, 6))) for _ in range(count)]
    return [Example(word, word) for word in words]


def stream(**options: Any) -> StreamingBatches:
    settings = {"append_eos_to_target": False, "batch_tokens": 60, "buffer_size": 25, "seed": 3, **options}
    return StreamingBatches(corpus, TOKENIZER, **settings)


def stream_trainer(folder: Path, *, dropout: float = 0.0, workers: int = 0, **settings: Any) -> SequenceTrainer:
    torch.manual_seed(0)
    spec = MODELS["ctc"]
    model = spec.model(spec.config(vocab_size=len(TOKENIZER), dropout=dropout, **SIZES)).double()
    made = trainer(folder, "ctc", model=model, dataloader_num_workers=workers, **settings)
    made.train_dataset = stream()
    return made


def seen_by(made: SequenceTrainer) -> list[list[int]]:
    seen: list[list[int]] = []
    collate = made.data_collator
    made.data_collator = lambda batch: seen.append([example.index for example in batch]) or collate(batch)
    made.train()
    return seen


def test_a_streamed_run_learns(tmp_path: Path) -> None:
    held_out = encode(corpus(12), TOKENIZER, append_eos_to_target=False)
    made = stream_trainer(
        tmp_path, max_steps=200, optim="adamw_torch", eval_dataset=held_out, eval_strategy="steps", eval_steps=100
    )
    before = made.evaluate()["eval_nll"]
    made.train()
    assert made.evaluate()["eval_nll"] < min(0.5, before / 4)


def test_every_example_comes_once_in_each_pass(tmp_path: Path) -> None:
    num_batches = len(list(stream()))
    seen = seen_by(stream_trainer(tmp_path, max_steps=3 * num_batches))
    passes = [seen[start : start + num_batches] for start in range(0, 3 * num_batches, num_batches)]
    for batches in passes:
        assert sorted(index for batch in batches for index in batch) == list(range(60))
    assert passes[0] != passes[1] != passes[2]


def test_workers_change_nothing(tmp_path: Path) -> None:
    ends = [stream_trainer(tmp_path, max_steps=12, workers=workers) for workers in (0, 1)]
    for made in ends:
        made.train()
    torch.testing.assert_close(weights(ends[1].model), weights(ends[0].model), rtol=0, atol=0)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_run_ends_with_the_same_bits(accumulation: int, tmp_path: Path) -> None:
    settings = {
        "dropout": 0.3,
        "max_steps": 6,
        "gradient_accumulation_steps": accumulation,
        "save_strategy": "steps",
        "save_steps": 3,
        "optim": "adamw_torch",
    }
    # With accumulation, the break lies in the first pass and the end in the second.
    assert 3 * 2 < len(list(stream())) < 6 * 2
    straight = stream_trainer(tmp_path, **settings)
    straight.train()
    resumed = stream_trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    torch.testing.assert_close(weights(resumed.model), weights(straight.model), rtol=0, atol=0)
    losses = [[row["loss"] for row in made.state.log_history if "loss" in row] for made in (straight, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("of_a_stream", [True, False])
def test_a_finished_run_resumes_to_nothing(of_a_stream: bool, tmp_path: Path) -> None:
    def make() -> SequenceTrainer:
        settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "constant"}
        if of_a_stream:
            return stream_trainer(tmp_path, **settings)
        return trainer(tmp_path, "ctc", per_device_train_batch_tokens=30, **settings)

    straight = make()
    straight.train()
    again = make()
    output = again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert output.global_step == again.state.global_step == 3
    torch.testing.assert_close(weights(again.model), weights(straight.model), rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3"]


def test_report_is_of_the_first_pass() -> None:
    endless = EndlessStream(stream())
    batches = iter(endless)
    for _ in range(3 * len(list(stream()))):
        next(batches)
    assert endless.filter_report.num_examples == 60


# Recipes


def said_by(recipe: Path, folder: Path, *overrides: str) -> list[str]:
    said: list[str] = []
    run_recipe(load_recipe(recipe, overrides=[*STREAMED, *overrides]), folder, say=said.append)
    return said


def test_recipe_with_a_stream_never_reads_the_corpus_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path)
    long, infeasible = "a" * 70, "aaaaaaa"
    with (tmp_path / "train.tsv").open("a") as file:
        file.write(f"{long}\t{long}\nb\t{infeasible}\n")

    def whole(*_: object, **__: object) -> None:
        raise AssertionError("read whole")

    monkeypatch.setattr(run._Run, "_train_corpus", property(whole))
    said = said_by(recipe, tmp_path / "run")
    reports = [line for line in said if line.startswith("training data:")]
    assert len(reports) == 2
    # A batch holds 64 tokens, the line that is longer is left out like those over the limits.
    assert "1 source over 20 tokens (line 121)" in reports[0]
    assert "1 target over 2 frames a source token, the `upsampling_factor` (line 122)" in reports[0]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    # `eval_steps: 4` of the recipe, and the end.
    assert [row["step"] for row in rows if row["stage"] == "first" and "eval_nll" in row] == [4, 6]
    assert "stage second: done before" in said_by(recipe, tmp_path / "run")


def test_tokenizer_learns_from_the_start_of_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path)
    first = (tmp_path / "train.tsv").read_text().splitlines()[:3]
    monkeypatch.setattr(run, "TOKENIZER_EXAMPLES", 3)
    said_by(recipe, tmp_path / "run", "validation.metric=null", "evaluation.metrics=[exact_match]")
    vocabulary = load_tokenizer(tmp_path / "run" / "tokenizer").get_vocab()
    assert {token for token in vocabulary if len(token) == 1} == set("".join(first)) - {"\t"}


def test_evaluates_ten_times_unless_told(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path), overrides=["data.stream=true"])
    stage = recipe.stages[0].model_copy(update={"training": {"max_steps": 250, "per_device_train_batch_tokens": 100}})
    arguments = building.build_arguments(recipe.model_copy(update={"stages": [stage]}), stage, tmp_path)
    assert (arguments.eval_strategy, arguments.eval_steps, arguments.save_steps) == ("steps", 25, 25)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.0.training.max_steps=-1", "needs `max_steps` in the training of each stage: it has no length"),
        ("stages.1.training.per_device_train_batch_tokens=null", "needs `per_device_train_batch_tokens`"),
        ("stages.0.training.eval_strategy=epoch", "there are no epochs; use `eval_strategy: steps`"),
        ("data.train.path=absent.tsv", "no such file"),
    ],
)
def test_what_a_stream_lacks_is_told_before_anything_is_written(override: str, message: str, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with pytest.raises(UserError, match=message):
        said_by(recipe, tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_empty_stream_is_told(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "train.tsv").write_text("")
    with pytest.raises(UserError, match="the corpus is empty"):
        said_by(recipe, tmp_path / "run")
