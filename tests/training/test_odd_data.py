"""Runs on data that are legal but odd, and tokenizers that cannot write their targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_recipe import write_recipe

from sharpseq import UserError, load_recipe, run_recipe
from sharpseq.data import load_tokenizer

SHORT = ["stages.0.training.max_steps=1", "stages.1.training.max_steps=1"]
ODD = [
    "a\u2028b",
    "\u2028",
    "a\x0cb\x1cc",
    "\0",
    "a\0b",
    "\ufeffab",
    "\u200b",
    "a\rb",
    "\x1b[31m",
    "\U0001f600",
    "e\u0301",
]


def run(folder: Path, *overrides: str, name: str = "run") -> list[str]:
    reported: list[str] = []
    run_recipe(load_recipe(folder / "tiny.yaml", overrides=[*SHORT, *overrides]), folder / name, say=reported.append)
    return reported


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_odd_text_is_trained_on_evaluated_and_shown(tmp_path: Path, kind: str) -> None:
    write_recipe(tmp_path)
    for name in ("train", "validation"):
        with (tmp_path / f"{name}.tsv").open("a", encoding="utf-8", newline="") as file:
            file.writelines(f"{line}\t{line}\n" for line in ODD)
    reported = run(tmp_path, f"tokenizer={{kind: {kind}, vocab_size: 40}}")
    assert any("of 131 examples" in line for line in reported)
    assert not any("after encoding and decoding" in line for line in reported)
    [saved] = (tmp_path / "run" / "evaluation").glob("second.*.test.json")
    assert len(json.loads(saved.read_text(encoding="utf-8"))["hypotheses"]) == 10 + len(ODD)
    assert "</html>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_targets_that_their_tokenizer_cannot_write_are_reported_and_most_of_them_are_an_error(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    targets = ["AH0 B"] * 40 + ["B T"] * 80
    (tmp_path / "train.tsv").write_text("".join(f"ab\t{target}\n" for target in targets))
    (tmp_path / "validation.tsv").write_text("ab\tB T\n")
    symbols = "tokenizer={kind: characters, symbols: '[A-Z]+'}"
    reported = run(tmp_path, symbols)
    assert (
        "tokenizer: 40 of 120 targets are not what they were after encoding and decoding: 'AH0 B' becomes 'AH 0 B', "
        "'AH0 B' becomes 'AH 0 B'"
    ) in reported
    (tmp_path / "train.tsv").write_text("".join(f"ab\t{target}\n" for target in targets[:70]))
    for streaming in ("false", "true"):
        stream = [f"data.stream={streaming}", "validation.metric=null"]
        with pytest.raises(UserError, match=r"--set tokenizer.*: 40 of 70 targets are not .*let `symbols` match each"):
            run(tmp_path, symbols, *stream, name=streaming)
        assert not (tmp_path / streaming / "tokenizer").exists()
    # The folder takes the corrected recipe.
    assert not any("decoding:" in line for line in run(tmp_path, symbols.replace("+", "+[0-2]?"), name="false"))


def test_an_existing_tokenizer_that_changes_targets_is_only_reported(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    (tmp_path / "train.tsv").write_text("ab\tAH0 B\n" * 70)
    (tmp_path / "validation.tsv").write_text("ab\tB B\n")
    run(tmp_path, "tokenizer={kind: characters, symbols: '[A-Z]+[0-2]?'}")
    tokenizer = load_tokenizer(tmp_path / "run" / "tokenizer")
    text = (tmp_path / "run" / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8")
    assert "[A-Z]+[0-2]?" in text
    tokenizer.save_pretrained(tmp_path / "lossy")
    (tmp_path / "lossy" / "tokenizer.json").write_text(text.replace("[A-Z]+[0-2]?", "[A-Z]+"), encoding="utf-8")
    reported = run(tmp_path, f"tokenizer={{kind: pretrained, name: {tmp_path / 'lossy'}}}", name="other")
    assert any("70 of 70 targets are not what they were" in line for line in reported)


def test_a_recipe_may_normalise_nothing(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    for name in ("train", "validation"):
        path = tmp_path / f"{name}.tsv"
        path.write_text(path.read_text().replace("a", "e\u0301"), encoding="utf-8")
    for streaming in ("false", "true"):
        settings = [f"data.stream={streaming}", "validation.metric=null", "tokenizer.unicode_normalization=none"]
        run(tmp_path, *settings, name=streaming)
        tokenizer = load_tokenizer(tmp_path / streaming / "model")
        assert "\u0301" in tokenizer.get_vocab()
        assert "é" not in tokenizer.get_vocab()
        assert tokenizer.init_kwargs["unicode_normalization"] == "none"


def test_a_recipe_trains_and_generates_in_one_spelling(tmp_path: Path) -> None:
    weights = []
    for spelling in ("é", "e\u0301"):
        folder = tmp_path / str(len(spelling))
        folder.mkdir()
        write_recipe(folder)
        for name in ("train", "validation"):
            path = folder / f"{name}.tsv"
            path.write_text(path.read_text().replace("a", spelling), encoding="utf-8")
        run(folder)
        weights.append((folder / "run" / "model" / "model.safetensors").read_bytes())
        scores = json.loads((folder / "run" / "evaluation" / "second.default.test.json").read_text(encoding="utf-8"))
        weights.append(scores["metrics"])
    assert weights[:2] == weights[2:]
