"""Commands with fine-tuned language models: adapters, prompts, plain folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_pretrained import write_llama, write_pretrained_recipe
from typer.testing import Result

from sharpseq import SequenceGenerator

Command = Callable[..., Result]


@pytest.fixture
def adapter(here: Path, command: Command) -> Path:
    recipe = write_pretrained_recipe(here, write_llama(here / "llama"))
    command("train", recipe, "--set", "stages.0.evaluate=false", "--run", "run")
    return here / "run"


def test_an_adapter_serves_every_command(adapter: Path, command: Command) -> None:
    expected = [output.text for output in SequenceGenerator.from_pretrained(adapter).generate(["abc", "fed"])]
    assert command("generate", adapter, stdin="abc\nfed\n").stdout.splitlines() == expected
    command("evaluate", adapter, "run:test", "--metric", "exact_match", "--latency", 2, "--save", "adapter.json")
    exported = command("export", adapter, "plain", "--to", "hugging_face")
    assert exported.stderr.endswith("plain: any program that loads Hugging Face models reads it\n")
    assert Path("plain/model.safetensors").exists()
    assert command("generate", "plain", stdin="abc\nfed\n").stdout.splitlines() == expected
    command("evaluate", "plain", "run:test", "--metric", "exact_match", "--latency", 0, "--save", "plain.json")
    saved = [json.loads(Path(name).read_text())["hypotheses"] for name in ("adapter.json", "plain.json")]
    assert saved[0] == saved[1]
    compared = command("compare", "adapter.json", "plain.json", "--data", "run:test", "--metric", "exact_match")
    assert "p = 1.000" in compared.stdout
    Path("lines.tsv").write_text("abc\tx\nfed\ty\n")
    command("distill", adapter, "lines.tsv", "-o", "distilled.txt", "--set", "num_beams=1")
    assert Path("distilled.txt").read_text().splitlines() == expected


def test_another_prompt_can_be_tried(adapter: Path, here: Path, command: Command, mistake: Command) -> None:
    prompt = "Reverse: {source}"
    asked = command("generate", here / "llama", "--prompt", prompt, "--set", "max_new_tokens=9", stdin="abc\n")
    options = {"max_new_tokens": 9}
    [expected] = SequenceGenerator.from_pretrained(here / "llama", prompt=prompt, options=options).generate(["abc"])
    assert asked.stdout == expected.text + "\n"
    reported = mistake("generate", here / "llama", stdin="abc\n").stderr
    assert "has no prompt, which a causal language model needs" in reported
    assert "--prompt" in reported
    assert "exactly once" in mistake("generate", adapter, "--prompt", "no place", stdin="abc\n").stderr


def test_what_cannot_be_exported(adapter: Path, mistake: Command) -> None:
    assert "is an adapter; merge it first with `sharpseq export" in mistake("export", adapter, "out").stderr
    reported = mistake("export", adapter, "out", "--to", "hugging_face", "--quantization", "int8").stderr
    assert "--quantization goes with --to ctranslate2 and openvino only" in reported
    assert "is not empty" in mistake("export", adapter, adapter, "--to", "hugging_face").stderr
