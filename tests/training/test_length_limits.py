"""Long targets from short sources: nothing is cut silently, and what selects is what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_pretrained import write_llama, write_pretrained_recipe
from tiny_recipe import write_recipe
from tiny_task import examples, trainer

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.data import EncodedExample, StreamingBatches, train_tokenizer
from sharpseq.data.filters import LengthFilter
from sharpseq.decoding import longest_training_target
from sharpseq.evaluation import EvaluationResult
from sharpseq.generation import load_model
from sharpseq.integrations import export_hugging_face
from sharpseq.recipe import schema
from sharpseq.runs.stage_evaluation import validation_decoding
from sharpseq.training.progress import read_metrics

SENTENCES = {"a": "alpha bravo charlie delta", "b": "the quick brown fox jumps", "c": "one two three four five s"}
ALL_CUT = "3 of 3 outputs reached the limit of 12 tokens; raise the decoder's setting `max_new_tokens`"


def write_case(folder: Path, **evaluation: Any) -> Path:
    """Write a recipe that learns three sentences by heart, each from one letter; its tokens are characters."""
    path = write_recipe(folder, "autoregressive")
    lines = "".join(f"{source}\t{target}\n" for source, target in SENTENCES.items())
    (folder / "train.tsv").write_text(lines * 20)
    (folder / "validation.tsv").write_text(lines)
    content = yaml.safe_load(path.read_text())
    content["model"] |= {"d_model": 32, "ffn_dim": 64, "dropout": 0.0, "max_target_positions": 64}
    content["stages"] = content["stages"][:1]
    content["stages"][0] |= {"objective": "maximum_likelihood", "evaluate": True}
    content["stages"][0]["training"] |= {"max_steps": 60, "eval_steps": 30, "per_device_train_batch_tokens": 1000}
    content["validation"] = {"metric": "exact_match"}
    content["evaluation"] = {"metrics": ["exact_match"], "latency_sentences": 0, **evaluation}
    path.write_text(yaml.safe_dump(content))
    return path


def ran(recipe: Path, folder: Path, *overrides: str) -> tuple[EvaluationResult, list[dict[str, Any]], list[str]]:
    """Run, and return the result on the test data, the rows of all validations, and what was said."""
    said: list[str] = []
    result = run_recipe(load_recipe(recipe, overrides=overrides), folder, say=said.append)
    assert result is not None
    validations = [row for row in read_metrics(folder / "metrics.jsonl") if "eval_nll" in row]
    return result.results["test"][0], validations, said


def test_targets_longer_than_their_sources_are_written_whole(tmp_path: Path) -> None:
    result, validations, said = ran(write_case(tmp_path), tmp_path / "run")
    assert result.metrics["exact_match"].score == 100
    assert (result.num_at_limit, result.num_too_long) == (0, 0)
    assert validations[-1]["eval_exact_match"] == 100
    assert not any("reached the limit" in line for line in said)
    generator = SequenceGenerator.from_pretrained(tmp_path / "run")
    assert [output.text for output in generator.generate(SENTENCES)] == list(SENTENCES.values())
    assert longest_training_target(generator.model) == 25


def test_validation_decodes_as_evaluation_does_and_both_say_what_is_cut(tmp_path: Path) -> None:
    recipe = write_case(tmp_path, decodings={"short": {"min_new_tokens": 12, "max_new_tokens": 12}, "free": {}})
    few = ["stages.0.training.max_steps=2", "stages.0.training.eval_steps=1", "stages.0.decodings=[short]"]
    result, validations, said = ran(recipe, tmp_path / "run", *few)
    assert result.num_at_limit == 3
    assert EvaluationResult.from_json(result.to_json()).num_at_limit == 3
    assert [row["eval_outputs_at_limit"] for row in validations] == [3, 3]
    assert said.count(f"stage first, validation: {ALL_CUT}") == 2
    assert f"first short on test: {ALL_CUT}" in said
    _, _, said = ran(recipe, tmp_path / "free", *few, "validation.decoding=free")
    assert f"stage first, validation: {ALL_CUT}" not in said
    assert f"first short on test: {ALL_CUT}" in said
    with pytest.raises(UserError, match=r"`decoding` must name one of `evaluation.decodings`; did you mean `free`"):
        load_recipe(recipe, overrides=["validation.decoding=fre"])


def test_sources_that_are_too_long_are_counted_in_a_run(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with (tmp_path / "validation.tsv").open("a") as file:
        file.write("a" * 30 + "\tab\n")
    few = ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1", "validation.num_examples=11"]
    result, validations, said = ran(recipe, tmp_path / "run", *few)
    line = "1 of 11 sources is too long for the model, its output counts as empty: line 11"
    assert {f"stage first, validation: {line}", f"second on validation: {line}", f"second on test: {line}"} <= set(said)
    assert validations[-1]["eval_sources_too_long"] == 1
    assert result.num_too_long == 1


# Which decoding selects


def decoding(tmp_path: Path, *, stage: int, **changes: Any) -> Any:
    content: dict[str, Any] = yaml.safe_load(write_recipe(tmp_path, "latent_nat").read_text())
    refiner = {"objective": {"name": "gradient_matching"}, "refiner": {"parameterization": "score"}}
    content["stages"][1] |= {**refiner, "decodings": ["still", "learned"]}
    content["stages"][0] |= {"evaluate": True, "decodings": ["prior", "delta"]}
    decodings: dict[str, Any] = {
        "still": {"decoder": "latent_refinement", "steps": 0},
        "prior": {"steps": 0},
        "learned": {"decoder": "latent_refinement", "steps": 2},
        "search": {"decoder": "latent_search", "refinement": "learned", "length_beam": 1, "num_samples": 1},
        "delta": {"decoder": "delta_inference", "steps": 2},
    }
    content["evaluation"]["decodings"] = decodings
    for name, value in changes.items():
        section = content["stages"][stage] if name in ("decodings", "evaluate") else content["validation"]
        section[name] = value
    recipe = schema.Recipe(**content)
    found = validation_decoding(recipe, recipe.stages[stage])
    return next((name for name, each in decodings.items() if each == found), found)


def test_the_first_decoding_that_fits_a_stage_selects(tmp_path: Path) -> None:
    assert decoding(tmp_path, stage=0) == "prior"
    assert decoding(tmp_path, stage=0, decoding="delta") == "delta"
    assert decoding(tmp_path, stage=0, decoding="learned") == "prior"
    # Without decodings of its own, what needs a network is passed over.
    assert decoding(tmp_path, stage=0, decodings=None, evaluate=False) == "prior"
    # Steps with the network in training; no steps would choose blindly.
    assert decoding(tmp_path, stage=1) == "learned"
    assert decoding(tmp_path, stage=1, decoding="search") == "search"
    assert decoding(tmp_path, stage=1, decodings=["still"]) == {"decoder": "latent_refinement", "steps": 1}


# What is remembered


def test_trainers_remember_the_longest_target(tmp_path: Path) -> None:
    longest = max(len(example.labels) for example in examples(24, autoregressive=True))
    subject = trainer(tmp_path, "autoregressive")
    assert longest_training_target(subject.model) == longest - 1
    subject.save_model(str(tmp_path / "saved"))
    assert longest_training_target(load_model(tmp_path / "saved")) == longest - 1
    tokenizer = train_tokenizer(["ab"], kind="characters")
    settings: dict[str, Any] = {"append_eos_to_target": True, "batch_tokens": 50}
    for bound, expected in ((9, 8), (None, longest - 1)):
        stream = StreamingBatches(list, tokenizer, length_filter=LengthFilter(max_target_length=bound), **settings)
        subject._remember_longest_target(stream)
        assert longest_training_target(subject.model) == expected
        subject._remember_longest_target(examples(24, autoregressive=True))


def test_adapters_keep_the_longest_target(tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, write_llama(tmp_path / "llama"))
    content = yaml.safe_load(recipe.read_text())
    content["stages"] = content["stages"][:1]
    content["stages"][0] |= {"evaluate": False}
    recipe.write_text(yaml.safe_dump(content))
    result = run_recipe(load_recipe(recipe), tmp_path / "run", say=lambda line: None)
    assert result is not None
    longest = max(len(line.split("\t")[1]) for line in (tmp_path / "train.tsv").read_text().splitlines())
    assert longest_training_target(load_model(result.folder)) == longest
    assert longest_training_target(load_model(export_hugging_face(result.folder, tmp_path / "plain"))) == longest
    [output] = SequenceGenerator.from_pretrained(result.folder).generate(["abc"])
    assert output.num_tokens <= longest + 10


# Examples without a target


def test_sequences_without_a_target_are_counted_in_training_and_validation(tmp_path: Path) -> None:
    empty = EncodedExample(24, [5, 0], [])
    mixed = [*examples(5, autoregressive=True), empty]
    subject = trainer(tmp_path, "autoregressive", eval_dataset=mixed, per_device_train_batch_tokens=1000)
    subject.train_dataset = mixed
    subject.train()
    assert [row["without_target"] for row in subject.state.log_history if "loss" in row] == [1, 1, 1]
    assert subject.evaluate()["eval_without_target"] == 1
    whole = trainer(tmp_path, "autoregressive", eval_dataset=mixed[:5])
    whole.train()
    assert not any("without_target" in row for row in whole.state.log_history)
    assert "eval_without_target" not in whole.evaluate()


def test_data_without_any_target_are_refused(tmp_path: Path) -> None:
    empty = [EncodedExample(number, [5, 0], []) for number in range(4)]
    subject = trainer(tmp_path, "autoregressive", eval_dataset=empty)
    with pytest.raises(UserError, match="no validation example has a target token to be scored on"):
        subject.evaluate()
    with pytest.raises(ValueError, match="`train_dataset` has no example with a target"):
        subject._remember_longest_target(empty)
    subject.train_dataset = empty
    with pytest.raises(UserError, match="no training example so far has a target token to learn from"):
        subject.train()


def test_lengths_that_cannot_be_predicted_are_counted(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "vanilla_nat")
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("a\t" + "b" * 60 + "\n")
    few = ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1", "model.max_target_positions=64"]
    _, _, said = ran(recipe, tmp_path / "run", *few)
    assert any("1 of 121 targets are over 50 tokens longer or shorter than their source" in line for line in said)
