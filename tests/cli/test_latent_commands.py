"""`sharpseq latent`: every analysis from the command line, and what it says when it cannot be made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_latent import EXAMPLES, tiny_generator
from typer.testing import Result

Command = Callable[..., Result]
NAMES = ("marginal", "steps", "field", "revisions", "diversity")
FEW = {"marginal": ("--samples", 5), "steps": ("--samples", 5, "--at", "0,2"), "field": ("--grid", 3)}


@pytest.fixture
def model(here: Path) -> Path:
    return saved(here / "model")


def saved(folder: Path, *, latent_size: int = 2, parameterization: str | None = "score") -> Path:
    generator = tiny_generator(latent_size=latent_size, parameterization=parameterization)
    generator.model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def data(here: Path) -> Path:
    path = here / "data.tsv"
    path.write_text("".join(f"{example.source}\t{example.target}\n" for example in EXAMPLES))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_an_analysis_prints_a_table_or_json_and_writes_files(
    name: str, model: Path, data: Path, command: Command
) -> None:
    arguments = ("latent", name, model, data, *FEW.get(name, ()))
    shown = command(*arguments, "-o", "out")
    assert shown.stdout.strip()
    pictures = [] if name == "revisions" else [f"{name}.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted([f"{name}.html", f"{name}.json", *pictures])
    assert f"wrote out/{name}.json" in shown.stderr
    printed = command(*arguments, "--json").stdout
    assert printed == Path(f"out/{name}.json").read_text()
    assert json.loads(printed)["data"].startswith("data.tsv")


def test_limits_and_choices_are_kept(model: Path, data: Path, command: Command) -> None:
    def result(*arguments: object) -> object:
        return json.loads(command("latent", *arguments, "--json").stdout)["result"]

    assert result("marginal", model, data, "--samples", 2, "--limit", 3)["num_sentences"] == 3  # type: ignore[index]
    reports = result("steps", model, data, "--samples", 0, "--refinement", "learned", "--limit", 2)
    assert [report["refinement"] for report in reports] == ["learned"]  # type: ignore[attr-defined]
    assert [row["steps"] for row in reports[0]["statistics"]] == [0, 1, 2, 4, 8]  # type: ignore[index]
    field = result("field", model, data, "--line", 2, "--grid", 2, "--positions", "1,3")
    assert (field["source"], len(field["fields"])) == ("hgfe", 4)  # type: ignore[index]
    assert result("revisions", model, data, "--seed", 1)["seed"] == 1  # type: ignore[index]
    assert result("diversity", model, data, "--samples", 2)["num_samples"] == 2  # type: ignore[index]


def test_without_a_refinement_network_steps_are_those_of_delta_inference(
    here: Path, data: Path, command: Command
) -> None:
    bare = saved(here / "bare", parameterization=None)
    shown = command("latent", "steps", bare, data, "--samples", 0).stdout
    assert "delta inference" in shown
    assert "learned" not in shown


def test_empty_lines_are_left_out_and_told(model: Path, here: Path, command: Command) -> None:
    Path("source.txt").write_text("abc\n\ncba\n" + "a" * 30 + "\n")
    Path("target.txt").write_text("cba\na\n\nb\n")
    shown = command("latent", "marginal", model, "source.txt,target.txt", "--samples", 2)
    reported = (
        "3 left out (line 2: empty source; line 3: empty target; line 4: source of 31 tokens, the model reads 12)\n"
    )
    assert shown.stderr == reported
    assert "sentences" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("steps", "--at", "1,x"), "--at 1,x: 'x' is not a whole number of at least 0; give numbers with commas"),
        (("steps", "--at", "-1"), "--at -1: '-1' is not a whole number of at least 0"),
        (("steps", "--samples", 1), "--samples 1: one sample has no spread; give 0, or at least 2"),
        (("field", "--positions", "0"), "--positions 0: '0' is not a whole number of at least 1"),
        (("field", "--positions", "9"), "--positions 9: the target has 3 tokens"),
        (("steps", "--step-size", 0), "--step-size 0: give a number greater than 0"),
        (("field", "--step-size", "nan"), "--step-size nan: give a number greater than 0"),
        (("field", "--line", 5), "--line 5: data.tsv has 4 lines"),
        (("diversity", "--steps", 1), "--steps needs --refinement: say how the samples are to be refined"),
    ],
)
def test_options_that_make_no_sense(
    arguments: tuple[object, ...], reported: str, model: Path, data: Path, mistake: Command
) -> None:
    name, *options = arguments
    assert reported in mistake("latent", name, model, "data.tsv", *options).stderr


def test_models_that_do_not_fit(here: Path, data: Path, ctc_run: Path, mistake: Command) -> None:
    bare = saved(here / "bare", parameterization=None)
    wide = saved(here / "wide", latent_size=3)
    for name in NAMES:
        reported = mistake("latent", name, ctc_run, data).stderr
        assert "`model` must be a latent-variable model (latent_nat); got Ctc" in reported
    for arguments in (("steps", "--refinement", "learned"), ("revisions",), ("field",)):
        name, *options = arguments
        reported = mistake("latent", name, bare, data, *options).stderr
        assert "bare: `model` has no refinement network; train one with a stage" in reported
    reported = mistake("latent", "field", wide, data).stderr
    assert "wide: `model` must have a latent of 2 dimensions (latent_size 2); it has 3" in reported


@pytest.mark.parametrize("name", NAMES)
def test_data_and_folders_that_do_not_fit(name: str, model: Path, data: Path, mistake: Command) -> None:
    assert "missing.tsv: no such file" in mistake("latent", name, model, "missing.tsv").stderr
    Path("latin.tsv").write_bytes(b"a\tb\n\xe4\tb\n")
    assert "latin.tsv:2: not valid UTF-8" in mistake("latent", name, model, "latin.tsv").stderr
    Path("empty.tsv").write_text("")
    assert "empty.tsv is empty" in mistake("latent", name, model, "empty.tsv").stderr
    Path("blank.src").write_text("\n \n")
    Path("blank.tgt").write_text("a\nb\n")
    reported = mistake("latent", name, model, "blank.src,blank.tgt").stderr
    assert "must have at least one that the model can read; got none: empty source in line 1" in reported
    assert "nowhere: no such folder" in mistake("latent", name, "./nowhere", data).stderr
    assert "data.tsv is a file; give a folder" in mistake("latent", name, model, data, "-o", "data.tsv").stderr
    assert "there is no folder a; make it first" in mistake("latent", name, model, data, "-o", "a/b").stderr


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_explains_every_option(name: str, command: Command) -> None:
    shown = command("latent", *([name] if name else []), "--help").stdout
    assert "Usage" in shown
    import typer.main

    from sharpseq.cli.latent import app

    group = typer.main.get_command(app)
    described = group.commands[name] if name else group  # type: ignore[attr-defined]
    assert described.help
    assert all(getattr(parameter, "help", None) for parameter in described.params)
