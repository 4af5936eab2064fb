"""`sharpseq merge`: one model from several, and mistakes in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from sharpseq.generation import load_model

Command = Callable[..., Result]


@pytest.fixture
def stages(teacher_run: Path, here: Path) -> tuple[Path, Path]:
    """A base, and a task whose weights are a little further on."""
    base, task = here / "base", here / "task"
    for folder in (base, task):
        shutil.copytree(teacher_run / "model", folder)
    model = load_model(task)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(task)
    return base, task


def test_coefficients_are_learned_reported_and_the_model_generates(
    stages: tuple[Path, Path], here: Path, command: Command
) -> None:
    Path("lines.txt").write_text("abc\nhgfe\ndead\n")
    Path("more.tsv").write_text("bcd\tnever read\nfa\tnever read\n")
    result = command(
        *("merge", stages[0], stages[1], stages[0], "-o", "merged", "--data", "lines.txt", "--data", "more.tsv"),
        *("--steps", 2, "--set", "max_new_tokens=4", "--divergence", "kl"),
    )
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    figures = r"coefficient [\d.]+( to [\d.]+)?, kl \d+\.\d{4} → \d+\.\d{4} nats per position"
    for model, line in zip((stages[1], stages[0]), lines, strict=False):
        assert re.fullmatch(re.escape(f"{model}: ") + figures, line), line
    assert lines[2] == "merged: the merged model; its coefficients are in README.md"
    assert command("generate", "merged", stdin="abc\n").stdout.count("\n") == 1


def test_task_arithmetic_needs_no_data(stages: tuple[Path, Path], here: Path, command: Command) -> None:
    merge = ("merge", *stages, "--method", "task_arithmetic")
    result = command(*merge, "--coefficient", 0.25, "-o", "merged")
    assert result.stderr.splitlines()[0] == f"{stages[1]}: coefficient 0.250"
    base, task, merged = (dict(load_model(folder).named_parameters()) for folder in (*stages, here / "merged"))
    for name, weight in merged.items():
        torch.testing.assert_close(weight, 0.75 * base[name] + 0.25 * task[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data is needed once for each of 1 task(s), in order; got 0"),
        (
            ["--data", "lines.txt", "--data", "lines.txt"],
            "--data is needed once for each of 1 task(s), in order; got 2",
        ),
        (["--data", "nothing.txt"], "nothing.txt: "),
        (["--data", "empty.txt"], "empty.txt is empty"),
        (["--data", "lines.txt", "--method", "magic"], "`method` must not be 'magic'"),
        (["--data", "lines.txt", "--set", "num_beems=2"], "num_beems"),
        (["--data", "lines.txt", "--prompt", "{source}"], "is no causal language model and takes no prompt"),
        (["--data", "lines.txt", "--learning-rate", "0"], "`steps` and `learning_rate` must be positive"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, stages: tuple[Path, Path], mistake: Command, here: Path
) -> None:
    Path("lines.txt").write_text("abc\n")
    Path("empty.txt").write_text("")
    assert message in mistake("merge", *stages, "-o", "merged", *arguments).stderr
    assert not Path("merged").exists()


def test_a_model_of_another_kind_is_one_line(
    stages: tuple[Path, Path], ctc_run: Path, mistake: Command, here: Path
) -> None:
    result = mistake("merge", stages[0], ctc_run, "-o", "merged", "--method", "task_arithmetic")
    assert "is a sharpseq-ctc model and" in result.stderr
