"""How commands end: one line for what a user can mend, a traceback for a bug."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner, Result

from sharpseq import UserError
from sharpseq.cli.failures import OneLineFailures


def run_failing_with(failure: BaseException) -> Result:
    app = typer.Typer(cls=OneLineFailures)

    @app.command()
    def fail() -> None:
        typer.echo("half an answer")
        raise failure

    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    ("failure", "status", "line"),
    [
        (UserError("a.txt:3: not UTF-8;\nre-encode it"), 2, "error: a.txt:3: not UTF-8; re-encode it\n"),
        (UserError("[red]brackets[/red] stay"), 2, "error: [red]brackets[/red] stay\n"),
        (UserError("a long line " * 40), 2, "error: " + "a long line " * 40 + "\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/model.bin"),
            2,
            "error: no space left on the disk for runs/model.bin; free some and run the same command again\n",
        ),
        # As torch 2.13 and safetensors 0.8 say it.
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
            2,
            "error: no space left on the disk; free some and run the same command again\n",
        ),
        (
            Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
            2,
            "error: no space left on the disk; free some and run the same command again\n",
        ),
    ],
)
def test_a_mendable_failure_is_one_line(failure: BaseException, status: int, line: str) -> None:
    result = run_failing_with(failure)
    assert result.exit_code == status
    assert result.stderr == line
    assert result.stdout == "half an answer\n"


@pytest.mark.parametrize("bug", [ValueError("a bug"), OSError(errno.EIO, "Input/output error"), RuntimeError("a bug")])
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    result = run_failing_with(bug)
    assert result.exception is bug
    assert result.stderr == ""


def start(*arguments: str, stdout: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sharpseq", *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["info", "--json"]])
def test_a_full_disk_under_standard_output_is_told(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full.fileno())
        _, stderr = process.communicate()
    assert (process.returncode, stderr.count("\n"), "no space left" in stderr) == (2, 1, True)


def test_a_reader_who_leaves_early_is_no_error() -> None:
    process = start("info", "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()


@pytest.mark.parametrize("arguments", [["no-such-command"], ["info", "--no-such-option"]])
def test_a_usage_error_has_status_2(arguments: list[str]) -> None:
    process = start(*arguments, stdout=subprocess.PIPE)
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in stderr
