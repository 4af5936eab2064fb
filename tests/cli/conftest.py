"""Two models that took seconds to train, and a command line that runs in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny_recipe import write_recipe
from typer.testing import CliRunner, Result

from sharpseq import load_recipe, run_recipe
from sharpseq.cli import app

Command = Callable[..., Result]


def _train(folder: Path, family: str) -> Path:
    """Train one short stage in ``folder / "run"``, and return that."""
    path = write_recipe(folder, family)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["evaluate"] = True
    content["stages"][0]["training"] |= {"max_steps": 6, "eval_steps": 6, "disable_tqdm": True}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = run_recipe(load_recipe(path), folder / "run", say=lambda line: None)
    assert result is not None
    return result.folder


@pytest.fixture(scope="session")
def ctc_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a CTC model; tests copy what they want to break."""
    return _train(tmp_path_factory.mktemp("ctc"), "ctc")


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an autoregressive model with the same vocabulary."""
    return _train(tmp_path_factory.mktemp("teacher"), "autoregressive")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder for each test, and lines that are not wrapped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


@pytest.fixture
def command() -> Command:
    """Run ``sharpseq`` and expect it to succeed."""

    def run(*arguments: object, stdin: str | bytes = b"") -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
        return result

    return run


@pytest.fixture
def mistake(here: Path) -> Command:
    """Run ``sharpseq`` and expect one line about a mistake, status 2, and every file as it was."""

    def run(*arguments: object, stdin: str | bytes = b"", notes: int = 0) -> Result:
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert isinstance(result.exception, SystemExit), f"a traceback: {result.exception!r}"
        assert result.exit_code == 2, result.output
        *noted, last = result.stderr.splitlines()
        assert last.startswith("error: "), result.stderr
        assert len(noted) == notes, result.stderr
        assert "Traceback" not in result.output
        changed = [path for path, content in before.items() if not path.exists() or path.read_bytes() != content]
        assert not changed
        return result

    return run
