"""Recipes with language-coded models: from two keys to a model folder that needs no further option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_multilingual import LANGUAGES, PAD, write_multilingual
from tiny_pretrained import write_bart, write_pretrained_recipe
from tiny_recipe import write_recipe
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.data import Example, encode, languages_of, set_languages
from sharpseq.generation import fit_target_start, load_model
from sharpseq.integrations import export_hugging_face
from sharpseq.runs import RunResult
from sharpseq.scoring import score_model
from sharpseq.training import collator_for


def write(folder: Path, kind: str, *, lora: dict[str, Any] | None = None) -> Path:
    """Write a recipe from French to German, and its model."""
    _, german, french = LANGUAGES[kind]
    model = write_multilingual(folder / "pretrained", kind, seed=2)
    path = write_pretrained_recipe(folder, model, prompt=None, lora=lora)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["model"] |= {"source_language": french, "target_language": german}
    content["stages"] = content["stages"][:1]
    content["stages"][0]["training"] |= {"max_steps": 2}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def run(recipe: Path, *overrides: str) -> tuple[RunResult, list[str]]:
    said: list[str] = []
    result = run_recipe(load_recipe(recipe, overrides=overrides), recipe.parent / "run", say=said.append)
    assert result is not None
    return result, said


def mistake(recipe: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as failure:
        run(recipe, *overrides)
    return str(failure.value)


def line_of(recipe: Path, text: str) -> str:
    lines = recipe.read_text().splitlines()
    return f"{recipe}:{next(number for number, line in enumerate(lines, start=1) if text in line)}"


@pytest.mark.parametrize(
    ("kind", "lora"), [("nllb", None), ("mbart", None), ("mbart", {"r": 2, "target_modules": ["q_proj", "v_proj"]})]
)
def test_a_finished_run_needs_no_further_option(kind: str, lora: dict[str, Any] | None, tmp_path: Path) -> None:
    _, german, french = LANGUAGES[kind]
    result, _ = run(write(tmp_path, kind, lora=lora))
    generator = SequenceGenerator.from_pretrained(result.folder, options={"max_new_tokens": 9})
    assert generator.languages == {"source_language": french, "target_language": german}
    lines = [line.split("\t")[0] for line in (tmp_path / "validation.tsv").read_text().splitlines()]
    outputs = [output.text for output in generator.generate(lines)]
    assert outputs == list(result.results["test"][0].hypotheses or ())
    export_hugging_face(result.folder, tmp_path / "plain")
    # As transformers alone reads the folder.
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "plain")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "plain")
    code, source_code = languages_of(tokenizer)[german], languages_of(tokenizer)[french]
    inputs = tokenizer(["abc"], return_tensors="pt")
    assert source_code in inputs["input_ids"]
    assert model.generate(**inputs, max_new_tokens=5)[0, 0 if kind == "mbart" else 1] == code
    assert tokenizer(text_target="abc").input_ids.count(code) == 1


@pytest.mark.parametrize("kind", LANGUAGES)
def test_the_loss_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    _, german, french = LANGUAGES[kind]
    folder = write_multilingual(tmp_path / "model", kind)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if kind == "mbart":
        with pytest.raises(ValueError, match=r"`sharpseq.generation.fit_target_start\(model, tokenizer\)` sets"):
            collator_for(model)
    set_languages(tokenizer, source=german, target=french)
    fit_target_start(model, tokenizer)
    examples = [Example("abc", "cba"), Example("a bc", "z")]
    batch = collator_for(model)(encode(examples, tokenizer, append_eos_to_target=True))
    scores = score_model(model, {name: tensor for name, tensor in batch.items() if name != "example_ids"})
    inputs = tokenizer([example.source for example in examples], return_tensors="pt", padding=True)
    targets = tokenizer(text_target=[example.target for example in examples], return_tensors="pt", padding=True)
    logits = model(**inputs, labels=targets.input_ids).logits
    kept = targets.input_ids != PAD
    if kind == "mbart":
        kept &= targets.input_ids != languages_of(tokenizer)[french]  # after EOS
    chosen = logits.log_softmax(-1).gather(2, targets.input_ids[:, :, None]).squeeze(2)
    torch.testing.assert_close(scores.log_prob, (chosen * kept).sum(1))


def test_missing_and_unknown_languages_are_told_with_their_place(tmp_path: Path) -> None:
    recipe = write(tmp_path, "nllb")
    reported = mistake(recipe, "model.target_language=null")
    assert reported.startswith(f"{line_of(recipe, 'model:')}: `target_language` is missing")
    assert "give both `source_language` and `target_language`, by names such as deu_Latn, eng_Latn" in reported
    reported = mistake(recipe, "model.target_language=de")
    assert reported == (
        "--set model.target_language=de: `target_language`: the tokenizer has no language 'de'; "
        "did you mean `deu_Latn`?"
    )
    assert not (tmp_path / "run").exists()
    assert "max_new_tokens` must be at most 38" in mistake(recipe, "evaluation.decodings.greedy.max_new_tokens=39"), (
        "start and code take two of the 40 positions"
    )
    bart = write_bart(tmp_path / "bart")
    reported = mistake(recipe, f"model.pretrained={bart}")
    assert reported.startswith(
        f"{line_of(recipe, 'source_language:')}: `source_language` is for models with language codes"
    )


def test_texts_of_no_words_are_left_out_although_they_have_a_code(tmp_path: Path) -> None:
    recipe = write(tmp_path, "nllb")
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("abc\t\n\tabc\n")
    _, said = run(recipe)
    assert "1 target under 3 tokens (line 121); 1 source under 3 tokens (line 122)" in "\n".join(said)


def test_a_family_with_a_multilingual_tokenizer_names_the_languages_there(tmp_path: Path) -> None:
    tokenizer = write_multilingual(tmp_path / "pretrained", "nllb")
    path = write_recipe(tmp_path, "autoregressive")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    languages = {"source_language": "fra_Latn", "target_language": "deu_Latn"}
    content["tokenizer"] = {"kind": "pretrained", "name": str(tokenizer), **languages}
    content["stages"] = content["stages"][1:]
    content["stages"][0]["training"] |= {"max_steps": 2, "eval_steps": 2}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert "`tokenizer`: `target_language` is missing" in mistake(path, "tokenizer.target_language=null")
    result, _ = run(path)
    generator = SequenceGenerator.from_pretrained(result.folder)
    assert generator.languages == languages
    assert (
        load_model(result.folder).generation_config.forced_bos_token_id == languages_of(generator.tokenizer)["deu_Latn"]
    )
    with pytest.raises(UserError, match="`source_language` and `target_language` go with `kind: pretrained` only"):
        load_recipe(path, overrides=["tokenizer.kind=characters", "tokenizer.name=null"])
    with pytest.raises(UserError, match="write the `source_language` of a pretrained model into `model`"):
        load_recipe(path, overrides=[f"model={{pretrained: {tokenizer}}}"])
