"""`sharpseq theory`: a table in seconds, a page with everything, and what it says of files that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Command = Callable[..., Result]


@pytest.fixture
def counts(here: Path) -> Path:
    path = here / "counts.tsv"
    path.write_text("go home\t6\ngo on\t3\nstop\t1\t5\n")
    return path


def test_without_a_file_it_shows_the_built_in_example(command: Command) -> None:
    shown = command("theory").stdout
    assert "100 translations of “Vielen Dank”" in shown
    # Per sequence, maximum likelihood divides by the length: 0.24/1 is more than 0.38/2.
    first = next(line for line in shown.splitlines() if "maximum likelihood" in line)
    assert [cell.strip() for cell in first.strip("│").split("│")][:4] == [
        "maximum likelihood",
        "sequence mean",
        "thanks",
        "0.414",
    ]


def test_objectives_can_be_chosen(counts: Path, command: Command) -> None:
    shown = command("theory", counts, "--k", "3, 1", "--power", "").stdout
    names = [line.strip("│").split("│")[0].strip() for line in shown.splitlines() if line.startswith("│")]
    assert names == ["maximum likelihood", "exponential, k = 1", "exponential, k = 3"] * 2
    assert "power, k = 0.3" in command("theory", counts, "--power", "0.3").stdout


def test_a_page_pictures_and_json_are_written(counts: Path, command: Command) -> None:
    shown = command("theory", counts, "--k", "2", "--power", "", "-o", "out", "--json")
    endings = ("ctc", "factorised", "gradients", "lengths", "optimum", "training")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["theory.html", "theory.json", *(f"theory-{ending}.png" for ending in endings)]
    )
    assert "wrote out/theory.html" in shown.stderr
    result = json.loads(Path("out/theory.json").read_text())["result"]
    assert result["optima"]["outcomes"] == ["go home", "go on", "stop"]
    assert result["optima"]["lengths"] == [2.0, 2.0, 5.0]
    assert {best["objective"] for best in result["optima"]["optima"]} == {"maximum likelihood", "exponential, k = 2"}
    assert result["factorised"]["outcomes"] == ["go home", "go on"]
    assert [training["k"] for training in result["training"]] == [2.0]
    assert shown.stdout == Path("out/theory.json").read_text()


def test_one_outcome_is_enough(here: Path, command: Command) -> None:
    Path("one.tsv").write_text("stop\t4\n")
    shown = command("theory", "one.tsv", "--k", "1", "--power", "", "-o", "out")
    assert "one-hot" in shown.stdout
    assert not list(Path("out").glob("*ctc*")) and not list(Path("out").glob("*lengths*"))


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("missing.tsv",), "missing.tsv: no such file; check the path"),
        (("bad.tsv",), "bad.tsv:2: the count 'x' is not a number of at least 0; correct the line"),
        (("--k", "1,0"), "--k 1,0: '0' is not a number above 0; give numbers with commas"),
        (("--k", ""), "--k : '' is not a number above 0"),
        (("--k", "inf"), "--k inf: 'inf' is not a number above 0"),
        (("--k", "nan"), "--k nan: 'nan' is not a number above 0"),
        (("--power", "2"), "--power 2: '2' is not a number above 0 and of at most 1"),
        (("-o", "bad.tsv"), "bad.tsv is a file; give a folder"),
        (("-o", "a/b"), "there is no folder a; make it first"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: tuple[str, ...], reported: str, here: Path, mistake: Command) -> None:
    Path("bad.tsv").write_text("a\t1\nb\tx\n")
    assert reported in mistake("theory", *arguments).stderr
