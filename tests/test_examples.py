"""The examples run: each in this process, on tiny sizes."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sharpseq.models import MODELS

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "finetune_language_model",
        "own_objective",
        "train_translation",
    }


@pytest.mark.parametrize("family", MODELS)
def test_train_translation_compares_two_losses_on_a_made_up_corpus(family: str) -> None:
    tiny = ["--model", family, "--warm-up", "2", "--steps", "1", "--width", "16", "--held-out", "4"]
    results = load("train_translation").main(tiny)
    assert list(results) == ["maximum likelihood", "convex k=2"]
    for result in results.values():
        assert result.num_sentences == 4
        # After so few updates a graph may write nothing, which has no mean over tokens.
        assert result.confidence is not None and math.isfinite(result.confidence.nll_per_sentence)


def test_train_translation_reads_files(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a dog\na cat\n" * 10, encoding="utf-8")
    (tmp_path / "train.de").write_text("ein Hund\neine Katze\n" * 10, encoding="utf-8")
    files = ["--source", "train.en", "--target", "train.de", "--vocab-size", "30"]
    results = load("train_translation").main(
        [*files, "--warm-up", "1", "--steps", "1", "--width", "16", "--held-out", "2"]
    )
    assert results["maximum likelihood"].num_sentences == 2


def test_the_made_up_corpus_has_two_right_answers_for_every_number() -> None:
    corpus = load("train_translation").made_up_corpus(seed=1)
    assert len({example.source for example in corpus}) == len(corpus) == 648
    assert all(example.target in example.references and len(set(example.references)) == 2 for example in corpus)
    by_translator = sum(example.target == example.references[0] for example in corpus) / len(corpus)
    assert 0.5 < by_translator < 0.7
    [number] = [example for example in corpus if example.source == "three hundred twenty one"]
    assert number.references == ("drei hundert ein und zwanzig", "drei hundert zwanzig und ein")


def test_own_objective_trains_and_logs_its_weights() -> None:
    example = load("own_objective")
    rows = example.main(["--steps", "10", "--margin", "1.0", "--temperature", "0.5"])
    assert len(rows) == 5
    assert all(0 <= row["weight_min"] <= row["weight_mean"] <= row["weight_max"] <= 1 for row in rows)
    assert rows[-1]["weight_mean"] > rows[0]["weight_mean"]


def test_the_own_transform_has_the_weight_that_its_formula_says() -> None:
    from sharpseq.objectives import derivative

    transform = load("own_objective").SoftThreshold(margin=1.0, temperature=0.5)
    g = torch.linspace(-4, 0, 9, dtype=torch.float64)
    torch.testing.assert_close(derivative(transform, g), torch.sigmoid((g + 1.0) / 0.5))


@pytest.mark.parametrize("packing", [[], ["--packing", "--max-length", "64"]], ids=["padded", "packed"])
def test_finetune_language_model_teaches_a_made_up_model(
    packing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trl")
    found = load("finetune_language_model").main(["--steps", "30", *packing])
    assert found["eval_nll"] < 2.5
    assert "nats per token on validation: 3." in capsys.readouterr().out
    assert Path("runs/language-model/model.safetensors").is_file()


def test_finetune_language_model_takes_a_folder_and_files(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    example = load("finetune_language_model")
    model, tokenizer = example.made_up_model()
    model.save_pretrained("chat-model")
    tokenizer.save_pretrained("chat-model")
    lines = []
    for row in example.made_up_rows(12, seed=3):
        lines.append(json.dumps({"messages": [*row["prompt"], *row["completion"]]}) + "\n")
    Path("train.jsonl").write_text("".join(lines[:8]))
    Path("validation.jsonl").write_text("".join(lines[8:]))
    files = ["--model", "chat-model", "--train", "train.jsonl", "--validation", "validation.jsonl"]
    assert math.isfinite(example.main([*files, "--steps", "2"])["eval_loss"])
    assert Path("runs/language-model/adapter_model.safetensors").is_file()
