"""Text that is legal but odd goes in and comes out line by line."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from sharpseq.data import load_tokenizer, set_unicode_normalization
from sharpseq.generation import Generation, SequenceGenerator

Command = Callable[..., Result]
ODD = [
    "a\u2028b",
    "\u2028",
    "a\u0085b\x0cc\x1cd",
    "\0",
    "a\0b",
    "\ufeff",
    "\ufeffab",
    "\u200b\u00ad\u2060",
    "a\rb",
    "\x1b[31mab",
    "a\u202eb",
    "\u00a0\u3000",
    "ab\t",
    "\U0001f600",
    "e\u0301",
]


def always(output: Generation) -> Any:
    """Return a decoding of batches that writes the same for every source."""
    return lambda self, batch, options, *, model: [output] * len(batch["input_ids"])


def test_every_odd_line_gives_one_line(ctc_run: Path, command: Command) -> None:
    given = "".join(f"{line}\n" for line in ["abc", *ODD, "abc"])
    result = command("generate", ctc_run, stdin=given.encode())
    lines = result.stdout.split("\n")
    assert len(lines) == len(ODD) + 3
    assert lines[0] == lines[-2] != ""
    assert len(result.stdout.splitlines()) == len(ODD) + 2
    for line, output in zip(ODD, lines[1:], strict=False):
        # Where there is nothing to see, there is nothing to write.
        if line in ("\u2028", "\0", "\ufeff", "\u200b\u00ad\u2060", "\u00a0\u3000"):
            assert output == ""


def test_line_breaks_of_any_kind_in_an_output_stay_on_its_line(
    ctc_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = "x\u2028y\x0bz\u0085w"
    monkeypatch.setattr(SequenceGenerator, "_decode", always(Generation(written, -1.0)))
    assert command("generate", ctc_run, stdin="a\nb\n").stdout == "x y z w\n" * 2
    assert command("generate", ctc_run, "--scores", stdin="a\n").stdout == "-1.0000\tx y z w\n"
    Path("data.tsv").write_text("a\tb\n")
    command("distill", ctc_run, "data.tsv", "-o", "out.txt")
    assert Path("out.txt").read_text(encoding="utf-8") == "x y z w\n"
    command("distill", ctc_run, "data.tsv", "-o", "out.jsonl")
    assert json.loads(Path("out.jsonl").read_text(encoding="utf-8"))["target"] == written


def test_odd_data_are_evaluated_compared_and_distilled(ctc_run: Path, command: Command) -> None:
    rows = "".join(f"{line}\t{line}\n" for line in ODD if "\t" not in line)
    Path("odd.tsv").write_bytes(rows.encode())
    records = "".join(json.dumps({"source": line, "target": line}) + "\n" for line in [*ODD, "a\nb", "\n", "a\r\nb"])
    Path("odd.jsonl").write_text(records)
    for number, name in enumerate(("odd.tsv", "odd.jsonl")):
        num_rows = Path(name).read_bytes().count(b"\n")
        command("evaluate", ctc_run, name, "--latency", 0, "--save", f"{number}.json", "--report", f"{number}.html")
        saved = json.loads(Path(f"{number}.json").read_text(encoding="utf-8"))
        assert saved["num_sentences"] == len(saved["hypotheses"]) == num_rows
        command("distill", ctc_run, name, "-o", f"{number}.txt")
        assert len(Path(f"{number}.txt").read_text(encoding="utf-8").splitlines()) == num_rows
        outputs = [f"{number}.json", f"{number}.txt"]
        command("compare", *outputs, "--data", name, "--metric", "chrf", "--resamples", 10)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_files_may_have_names_that_are_not_utf_8(ctc_run: Path, command: Command) -> None:
    name = os.fsdecode(b"bad\xff.tsv")
    Path(name).write_text("ab\tba\n")
    command("evaluate", ctc_run, name, "--latency", 0, "--save", "s.json", "--report", "r.html")
    assert json.loads(Path("s.json").read_text(encoding="utf-8"))["data"] == "bad\ufffd.tsv"
    given = ("--hypotheses", name, "--references", name, "--metric", "chrf", "--save", "f.json")
    assert "bad\ufffd.tsv" in command("evaluate", *given).stdout


def test_folders_of_models_have_names_that_are_utf_8(ctc_run: Path, mistake: Command) -> None:
    name = os.fsdecode(b"bad\xff")
    reported = "the name is not UTF-8, as those of models must be; choose another"
    assert reported in mistake("train", ctc_run.parent / "tiny.yaml", "--run", name).stderr
    assert reported in mistake("export", ctc_run, name, "--to", "hugging_face").stderr
    assert reported in mistake("generate", name, stdin="abc\n").stderr


@pytest.mark.parametrize("spelling", ["NFC", "NFD"])
def test_both_spellings_are_the_same_source_and_unknown_characters_are_reported_once(
    ctc_run: Path, command: Command, spelling: str
) -> None:
    composed = command("generate", ctc_run, stdin="éa\nbé☃\nab\n".encode())
    given = unicodedata.normalize(spelling, "éa\nbé☃\nab\n")
    result = command("generate", ctc_run, stdin=given.encode())
    assert result.stdout == composed.stdout
    reported = "3 characters in 2 sources are unknown to the tokenizer and were read as <unk>: 'é' (2), '☃' (1)\n"
    assert result.stderr == reported
    Path("data.tsv").write_text("".join(f"{line}\tx\n" for line in given.split()), encoding="utf-8")
    assert command("evaluate", ctc_run, "data.tsv", "--latency", 2).stderr == reported
    assert command("distill", ctc_run, "data.tsv", "-o", "out.txt").stderr.endswith(reported)
    assert command("generate", ctc_run, stdin="ab\n").stderr == ""


def test_outputs_and_references_are_compared_in_one_spelling(command: Command) -> None:
    text = "schön früh\nÅngström\n"
    for form in ("NFC", "NFD"):
        Path(form).write_text(unicodedata.normalize(form, text), encoding="utf-8")
    for outputs, references in (("NFC", "NFD"), ("NFD", "NFC")):
        given = ("--hypotheses", outputs, "--references", references, "--metric", "exact_match", "--json")
        assert json.loads(command("evaluate", *given).stdout)["metrics"]["exact_match"]["score"] == 100
    compared = command("compare", "NFC", "NFD", "--references", "NFD", "--metric", "exact_match", "--json")
    [row] = json.loads(compared.stdout)
    assert (row["bootstrap"]["baseline_score"], row["bootstrap"]["system_score"]) == (100, 100)


def test_a_model_that_normalises_nothing_is_evaluated_on_raw_text(
    ctc_run: Path, here: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model that writes decomposed characters, whatever it reads.
    monkeypatch.setattr(SequenceGenerator, "_decode", always(Generation("e\u0301")))
    model = shutil.copytree(ctc_run / "model", here / "model")
    Path("data.tsv").write_text("ae\u0301\te\u0301\n", encoding="utf-8")

    def score() -> float:
        given = ("--latency", 0, "--metric", "exact_match", "--json")
        result = json.loads(command("evaluate", model, "data.tsv", *given).stdout)
        return float(result["metrics"]["exact_match"]["score"])

    assert score() == 0
    tokenizer = load_tokenizer(model)
    set_unicode_normalization(tokenizer, "none")
    tokenizer.save_pretrained(model)
    assert score() == 100
