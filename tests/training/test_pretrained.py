"""Recipes that fine-tune a pretrained model: adapters or all weights, causal or seq2seq."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tiny_pretrained import CHAT_TEMPLATE, PROMPT, tiny_tokenizer, write_bart, write_llama, write_pretrained_recipe
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
)

from sharpseq import SequenceGenerator, UserError, load_recipe, run_recipe
from sharpseq.data import load_tokenizer, prompt_of
from sharpseq.generation import load_model
from sharpseq.integrations import export_hugging_face
from sharpseq.processor_bf16 import bf16_is_slow
from sharpseq.runs import RunResult
from sharpseq.runs.checks import check_model
from sharpseq.runs.model_card import model_card
from sharpseq.runs.pretrained_start import locate_pretrained
from sharpseq.training.checkpoints import seal_checkpoint


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "llama")


def run(recipe: Path, *overrides: str, folder: Path | None = None) -> tuple[RunResult, list[str]]:
    said: list[str] = []
    target = folder or recipe.parent / "run"
    result = run_recipe(load_recipe(recipe, overrides=overrides), target, say=said.append)
    assert result is not None
    return result, said


@pytest.fixture(scope="module")
def adapted(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run that trained adapters of the tiny Llama, left alone by all tests."""
    folder = tmp_path_factory.mktemp("adapted")
    result, said = run(write_pretrained_recipe(folder, llama))
    assert sum("starting from pretrained weights" in line for line in said) == 2
    return result


PROMPTED = "<user>Reverse: abc<end><assistant>"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(6, 20)[None]).logits


# Adapters


def test_adapters_are_saved_alone_and_load_without_sharpseq(adapted: RunResult, llama: Path) -> None:
    names = {path.name for path in adapted.model.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    assert json.loads((adapted.model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(llama)
    expected = logits(load_model(adapted.folder))
    assert not torch.equal(expected, logits(load_model(llama)))
    for auto in (AutoModelForCausalLM, AutoPeftModelForCausalLM):
        torch.testing.assert_close(logits(auto.from_pretrained(adapted.model)), expected)
    assert AutoTokenizer.from_pretrained(adapted.model)("ab")["input_ids"] == [6, 7]


def test_each_stage_starts_from_the_pretrained_weights(adapted: RunResult, llama: Path, tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama)
    content = yaml.safe_load(recipe.read_text())
    content["stages"] = content["stages"][1:]
    recipe.write_text(yaml.safe_dump(content))
    alone, _ = run(recipe)
    second = load_file(adapted.folder / "stages" / "second" / "model" / "adapter_model.safetensors")
    same = load_file(alone.model / "adapter_model.safetensors")
    assert second.keys() == same.keys()
    assert all(torch.equal(second[name], same[name]) for name in second)
    first = load_file(adapted.folder / "stages" / "first" / "model" / "adapter_model.safetensors")
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_a_stage_goes_on_with_the_adapters_of_the_one_before(llama: Path, tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama)
    overrides = ("stages.1.start_from=first", "stages.1.training.learning_rate=1.0e-12")
    result, said = run(recipe, *overrides, "stages.1.evaluate=false")
    assert any("stage second: starting from first" in line for line in said)
    first = load_file(result.folder / "stages" / "first" / "model" / "adapter_model.safetensors")
    second = load_file(result.model / "adapter_model.safetensors")
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=1e-9)


def test_generation_reads_the_prompt_of_training_and_ends_turns(adapted: RunResult, tmp_path: Path) -> None:
    generator = SequenceGenerator.from_pretrained(adapted.folder)
    prompt = prompt_of(generator.tokenizer)
    assert prompt is not None
    assert prompt.template == PROMPT["template"]
    assert generator.model.config.eos_token_id == 0
    assert generator.model.config.pad_token_id == 1
    [output] = generator.generate(["abc"])
    ids = [generator.tokenizer.convert_tokens_to_ids(token) for token in ("<user>", "<end>", "<assistant>")]
    text = generator.tokenizer("Reverse: abc", add_special_tokens=False)["input_ids"]
    prompt_ids = torch.tensor([[ids[0], *text, ids[1], ids[2]]])
    written = generator.model.generate(prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=40)
    expected = generator.tokenizer.decode(written[0, prompt_ids.shape[1] :], skip_special_tokens=True)
    length = len(output.text)
    assert length
    assert output.text.rstrip() == expected[:length].rstrip()


def test_evaluation_in_the_run_equals_generation_afterwards(adapted: RunResult) -> None:
    [result] = [result for result in adapted.results["test"] if result.system == "second"]
    rows = (adapted.folder.parent / "validation.tsv").read_text().splitlines()
    generator = SequenceGenerator.from_pretrained(adapted.folder, options={"max_new_tokens": 9})
    assert [output.text for output in generator.generate([row.split("\t")[0] for row in rows])] == list(
        result.hypotheses or ()
    )


def test_an_evaluation_in_bf16_is_that_of_rounded_weights_and_says_so(adapted: RunResult, tmp_path: Path) -> None:
    shutil.copytree(adapted.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "evaluation")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("  bf16: false\n  latency", "  bf16: true\n  latency"))
    result, _ = run(recipe, folder=tmp_path / "run")
    [evaluation] = [evaluation for evaluation in result.results["test"] if evaluation.system == "second"]
    assert evaluation.decoder_settings["bf16"] is True
    generator = SequenceGenerator.from_pretrained(tmp_path / "run", merge=True, options={"max_new_tokens": 9})
    generator.model.to(torch.bfloat16)
    if bf16_is_slow():
        generator.model.float()
    rows = (adapted.folder.parent / "validation.tsv").read_text().splitlines()
    assert [output.text for output in generator.generate([row.split("\t")[0] for row in rows])] == list(
        evaluation.hypotheses or ()
    )


def test_merged_and_unmerged_write_the_same(adapted: RunResult, tmp_path: Path) -> None:
    folder = export_hugging_face(adapted.folder, tmp_path / "plain")
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "adapter_config.json").exists()
    expected = logits(load_model(adapted.folder))
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(folder)), expected)
    torch.testing.assert_close(logits(load_model(adapted.folder, merge=True)), expected)
    lines = ["abc", "hgfe", "a"]
    options = {"options": {"max_new_tokens": 9}}
    plain = [output.text for output in SequenceGenerator.from_pretrained(folder, **options).generate(lines)]
    assert plain == [
        output.text for output in SequenceGenerator.from_pretrained(adapted.folder, **options).generate(lines)
    ]
    with pytest.raises(UserError, match="is not empty"):
        export_hugging_face(adapted.folder, folder)


def test_the_card_names_objective_base_and_library(adapted: RunResult, llama: Path) -> None:
    card = (adapted.model / "README.md").read_text()
    assert "library_name: peft" in card
    assert f"adapter (LoRA) of {llama}" in card
    assert "convex_composition (transform exponential (k 2.0), label_smoothing" in card
    assert "base_model:" not in card.partition("\n---\n")[0], "a local path is not a Hub id"


# All weights, plain prompts, seq2seq


def test_all_weights_are_trained_and_saved_as_a_plain_folder(llama: Path, tmp_path: Path) -> None:
    plain = {"kind": "plain", "template": "{source}="}
    result, _ = run(write_pretrained_recipe(tmp_path, llama, prompt=plain, lora=None))
    before, after = load_file(llama / "model.safetensors"), load_file(result.model / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(result.model)), logits(load_model(result.folder))
    )
    assert "library_name: transformers" in (result.model / "README.md").read_text()


@pytest.mark.parametrize("lora", [None, {"r": 2, "target_modules": ["q_proj", "v_proj"]}])
def test_an_encoder_decoder_is_fine_tuned_without_a_prompt(lora: dict[str, Any] | None, tmp_path: Path) -> None:
    bart = write_bart(tmp_path / "bart")
    result, _ = run(write_pretrained_recipe(tmp_path, bart, prompt=None, lora=lora))
    ids = torch.arange(6, 20)[None]
    with torch.no_grad():
        expected = load_model(result.folder)(input_ids=ids, decoder_input_ids=ids).logits
        loaded = AutoModelForSeq2SeqLM.from_pretrained(result.model)(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(loaded, expected)
    assert len(result.results["test"][0].hypotheses or ()) == 10


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama", tokenizer=tiny_tokenizer(pad=False))
    result, _ = run(write_pretrained_recipe(tmp_path, model))
    generator = SequenceGenerator.from_pretrained(result.folder, options={"max_new_tokens": 9})
    assert generator.model.config.pad_token_id == generator.model.config.eos_token_id == 0
    together = [output.text for output in generator.generate(["abcdefg", "a"])]
    assert together == [output.text for line in ("abcdefg", "a") for output in generator.generate([line])]


# GGUF files


def test_a_gguf_file_is_converted_once_and_goes_along_when_the_run_is_moved(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from tiny_gguf import TOKENS, write_gguf

    original = LlamaForCausalLM.from_pretrained(write_llama(tmp_path / "llama", vocab_size=len(TOKENS)))
    file = write_gguf(tmp_path / "tiny.gguf", original)
    recipe = write_pretrained_recipe(tmp_path, file)
    result, _ = run(recipe, "stages.1.evaluate=false", "stages.0.evaluate=false")
    base = result.folder / "base"
    converted, trained = logits(AutoModelForCausalLM.from_pretrained(base)), logits(load_model(result.folder))
    # One more than the file has: transformers adds the unknown token of GPT-2.
    assert converted.shape[-1] == len(TOKENS) + 1
    assert torch.equal(converted[..., :-1], logits(original))
    assert not torch.equal(trained, converted)
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"base/model.safetensors is broken; delete .*base and run the same command"):
        locate_pretrained(load_recipe(recipe).model, base)
    (base / "model.safetensors").write_bytes(weights)
    file.unlink()
    moved = result.folder.rename(tmp_path / "moved")
    assert torch.equal(logits(load_model(moved)), trained)
    assert len(list(SequenceGenerator.from_pretrained(moved).generate(["abc"]))) == 1


# Paths and lost files


def test_paths_may_begin_at_home(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(llama.parent))
    path = write_pretrained_recipe(tmp_path, "~/llama")
    for overrides in ([], ["tokenizer={kind: pretrained, name: ~/llama}"], ["model.pretrained=$HOME/llama"]):
        recipe = load_recipe(path, overrides=overrides)
        check_model(recipe)
        assert locate_pretrained(recipe.model, tmp_path / "base") == str(llama)
        assert f"base_model: {recipe.model.pretrained}" not in model_card(recipe)
    assert load_tokenizer("$HOME/llama").get_vocab() == load_tokenizer(llama, pad_with_end=True).get_vocab()


def test_an_adapter_that_lost_its_weights_or_its_model_is_told(adapted: RunResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapted.model, tmp_path / "copy"))
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    weights.unlink()
    # PEFT would ask the Hub for it.
    with pytest.raises(UserError, match=r"copy: adapter_model.safetensors is missing; copy the folder again"):
        load_model(folder)
    for content in ('{"base_model_name_or_path": 3}', "[]", "[" * 100_000, "{}"):
        config.write_text(content)
        with pytest.raises(UserError, match="does not say `base_model_name_or_path`; copy the folder again"):
            load_model(folder)


# Kills


def test_killed_while_a_checkpoint_is_written_adapters_end_with_the_same_bits(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama, lora={"r": 4, "lora_dropout": 0.3})
    overrides = ("stages.0.training.max_steps=6", "stages.1.evaluate=false", "stages.0.evaluate=false")
    straight, _ = run(recipe, *overrides, folder=tmp_path / "straight")

    sealed: list[Path] = []

    def seal_once(folder: Path) -> None:
        if sealed:
            raise KeyboardInterrupt
        sealed.append(folder)
        seal_checkpoint(folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sharpseq.training.trainer.seal_checkpoint", seal_once)
        run(recipe, *overrides, folder=tmp_path / "broken")
    checkpoints = tmp_path / "broken" / "stages" / "first"
    assert {path.name for path in checkpoints.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    broken, said = run(recipe, *overrides, folder=tmp_path / "broken")
    assert "stage first: resuming at step 2" in said
    for part in ("stages/first/model", "stages/second/model", "model"):
        weights = [load_file(result.folder / part / "adapter_model.safetensors") for result in (straight, broken)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_end_of_turn_that_is_not_the_end_of_the_tokenizer_becomes_the_end_everywhere(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<end>", "<turn>")
    tokenizer.add_tokens(["<turn>"], special_tokens=True)
    model = write_llama(tmp_path / "llama", tokenizer=tokenizer)
    result, _ = run(write_pretrained_recipe(tmp_path, model, lora=None))
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert turn != 0
    for auto in (AutoTokenizer, AutoConfig, GenerationConfig):
        assert auto.from_pretrained(result.model).eos_token_id == turn
    assert SequenceGenerator.from_pretrained(result.folder).model.config.eos_token_id == turn


# Limits


def test_training_examples_over_the_positions_are_left_out_and_sources_over_them_get_an_error(
    tmp_path: Path,
) -> None:
    model = write_llama(tmp_path / "llama", max_position_embeddings=28)
    recipe = write_pretrained_recipe(tmp_path, model)
    rows = (tmp_path / "train.tsv").read_text().splitlines()
    # 12 tokens of the prompt, the word twice and the end.
    too_long = sum(12 + 2 * len(row.split("\t")[0]) + 1 > 28 for row in rows)
    assert 0 < too_long < len(rows)
    result, said = run(recipe)
    dropped = f"kept {len(rows) - too_long} of {len(rows)} examples; dropped {too_long}: {too_long} source and target"
    assert any(f"{dropped} over 28 tokens" in line for line in said)
    generator = SequenceGenerator.from_pretrained(result.folder)
    fits, error = generator.generate(["a" * 14, "a" * 15])
    assert fits.error is None
    assert error.error == "27 tokens, the model reads at most 26"


def test_a_corpus_may_be_limited(llama: Path, tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama)
    result, said = run(recipe, "data.train.limit=30", "data.test.test.limit=4", "stages.1.evaluate=false")
    assert any("kept 30 of 30" in line for line in said)
    assert [len(result.results[name][0].hypotheses or ()) for name in ("validation", "test")] == [10, 4]


# Mistakes


def mistake(recipe: Path, *overrides: str) -> str:
    folder = recipe.parent / "run"
    with pytest.raises(UserError) as caught:
        run_recipe(load_recipe(recipe, overrides=overrides), folder, say=lambda line: None)
    left = {path.name for path in folder.rglob("*")} if folder.exists() else set()
    assert left <= {"recipe.yaml", "tokenizer"}, "work began before the mistake was found"
    return str(caught.value)


def line_of(recipe: Path, text: str) -> str:
    lines = recipe.read_text().splitlines()
    return f"{recipe}:{next(number for number, line in enumerate(lines, start=1) if text in line)}"


def test_a_model_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, tmp_path / "nothing")
    assert mistake(recipe).startswith(f"{line_of(recipe, 'pretrained: /')}: {tmp_path / 'nothing'}: no such folder")
    assert "no such file" in mistake(recipe, f"model.pretrained={tmp_path}/nothing.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but no more")
    assert "broken.gguf" in mistake(recipe, f"model.pretrained={tmp_path}/broken.gguf")


def test_what_does_not_go_with_the_model_is_told_before_anything_is_written(llama: Path, tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama)
    assert "a causal language model needs `model.prompt`" in mistake(recipe, "model.prompt=null")
    bart = write_bart(tmp_path / "bart")
    assert "`prompt` is for causal language models" in mistake(recipe, f"model.pretrained={bart}")
    reported = mistake(recipe, "model.lora.target_modules=[nonsense]")
    assert "`lora`: " in reported
    assert "nonsense" in reported
    assert "must be at most 63" in mistake(recipe, "evaluation.decodings.greedy.max_new_tokens=999")


def test_a_batch_must_hold_prompt_and_target_of_the_longest_example(llama: Path, tmp_path: Path) -> None:
    recipe = write_pretrained_recipe(tmp_path, llama)
    longest = max(len(row.split("\t")[0]) for row in (tmp_path / "train.tsv").read_text().splitlines())
    with pytest.raises(UserError, match=f"the longest has {12 + 2 * longest + 1} tokens; got 20; raise it"):
        run(recipe, "stages.0.training.per_device_train_batch_tokens=20")


def test_a_chat_prompt_needs_a_chat_template(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama", tokenizer=tiny_tokenizer(chat=False))
    recipe = write_pretrained_recipe(tmp_path, model)
    reported = mistake(recipe)
    assert reported.startswith(line_of(recipe, "prompt:"))
    assert "chat template" in reported


def test_a_tokenizer_with_tokens_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama", vocab_size=40)
    reported = mistake(write_pretrained_recipe(tmp_path, model))
    assert "id 62, and the model knows only 40" in reported


def test_an_adapter_is_no_pretrained_model(adapted: RunResult, tmp_path: Path) -> None:
    reported = mistake(write_pretrained_recipe(tmp_path, adapted.model))
    assert "is an adapter; merge it first with `sharpseq export" in reported


def test_an_adapter_whose_model_is_gone_says_where_it_was(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "llama")
    result, _ = run(write_pretrained_recipe(tmp_path, model), "stages.1.evaluate=false", "stages.0.evaluate=false")
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"is an adapter of {model}, where there is no model"):
        load_model(result.folder)
