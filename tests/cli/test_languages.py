"""Commands with language-coded models: the languages of a folder can be overridden, and mistakes are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_multilingual import write_multilingual
from typer.testing import Result

from sharpseq import SequenceGenerator

Command = Callable[..., Result]
LANGUAGES = {"source_language": "fra_Latn", "target_language": "deu_Latn"}
OPTIONS = ("--source-language", "fra_Latn", "--target-language", "deu_Latn")
LINES = ["abc", "a", "zyxwv abc"]


@pytest.fixture
def model(here: Path) -> Path:
    return write_multilingual(here / "nllb", seed=9)


def texts(model: Path, **languages: str) -> list[str]:
    return [output.text for output in SequenceGenerator.from_pretrained(model, **languages).generate(LINES)]


def test_languages_are_chosen_on_every_command(model: Path, command: Command) -> None:
    expected = texts(model, **LANGUAGES)
    assert expected != texts(model, target_language="eng_Latn") != texts(model, target_language="deu_Latn")
    assert command("generate", model, *OPTIONS, stdin="\n".join(LINES)).stdout.splitlines() == expected
    Path("lines.tsv").write_text("".join(f"{line}\tx\n" for line in LINES))
    command("evaluate", model, "lines.tsv", *OPTIONS, "--latency", 0, "--save", "saved.json")
    saved = json.loads(Path("saved.json").read_text())
    assert saved["hypotheses"] == expected
    assert saved["decoder_settings"] == {"decoder": "autoregressive", **LANGUAGES}
    command("distill", model, "lines.tsv", "-o", "distilled.txt", "--set", "num_beams=1", *OPTIONS)
    assert Path("distilled.txt").read_text().splitlines() == expected
    command("teach", model, "lines.tsv", "-o", "store", *OPTIONS)
    command("export", model, "plain", "--to", "hugging_face", *OPTIONS)
    assert texts(Path("plain")) == expected


def test_mistakes_about_languages_are_one_line(model: Path, teacher_run: Path, mistake: Command) -> None:
    reported = mistake("generate", model, stdin="abc\n").stderr
    assert (
        "none is chosen; give `target_language` (`--target-language` on the command line); valid: deu_Latn" in reported
    )
    reported = mistake("generate", model, "--target-language", "de", stdin="abc\n").stderr
    assert "`target_language`: the tokenizer has no language 'de'; did you mean `deu_Latn`?" in reported
    reported = mistake("generate", teacher_run, "--target-language", "de", stdin="abc\n").stderr
    assert reported == (
        f"error: {teacher_run}: `target_language` is for models with language codes, such as NLLB, M2M100 and mBART, "
        "and the tokenizer of this one has none; leave it out\n"
    )
    Path("lines.tsv").write_text("abc\tx\n")
    assert "none is chosen" in mistake("teach", model, "lines.tsv", "-o", "store").stderr
    Path("out.txt").write_text("a\n")
    options = ("--hypotheses", "out.txt", "--references", "out.txt", "--target-language", "de")
    assert "are decoded already" in mistake("evaluate", *options).stderr
