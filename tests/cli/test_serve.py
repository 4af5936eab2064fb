"""``sharpseq serve``: what is wrong is said before anything is served."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result
from uvicorn.config import STARTUP_FAILURE

from sharpseq.serving.model_choice import parse_model_choices
from sharpseq.serving.server import AppFactory
from sharpseq.serving.server_settings import ServerSettings

Command = Callable[..., Result]


def test_a_port_in_use_is_one_line(ctc_run: Path, mistake: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reported = mistake("serve", f"en:de={ctc_run}", "--port", port).stderr
    assert reported == f"error: 127.0.0.1:{port}: the port is in use; stop what uses it or give another --port\n"


def test_other_mistakes_are_one_line(ctc_run: Path, mistake: Command) -> None:
    assert "say which languages the model translates" in mistake("serve", ctc_run).stderr
    assert "no such folder" in mistake("serve", "en:de=runs/typo", "--port", 0).stderr
    assert "has no such address" in mistake("serve", f"en:de={ctc_run}", "--host", "192.0.2.1", "--port", 0).stderr


def test_a_worker_that_cannot_start_says_why_and_is_not_started_again(capfd: pytest.CaptureFixture[str]) -> None:
    choices = parse_model_choices(["en:de=runs/typo"])
    factory = AppFactory(choices, ServerSettings(), lambda: None)
    with pytest.raises(SystemExit) as ended:
        factory.in_worker()
    assert ended.value.code == STARTUP_FAILURE
    assert capfd.readouterr().err == (
        "error: runs/typo: no such folder; give a run folder, a model folder or a Hub id\n"
    )


def test_files_of_keys_are_read_before_models(ctc_run: Path, mistake: Command) -> None:
    arguments = ("serve", f"en:de={ctc_run}", "--api-keys", "typo.txt")
    assert "typo.txt: cannot be read as a file of API keys" in mistake(*arguments).stderr
