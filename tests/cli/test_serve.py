"""``sharpseq serve``: what is wrong is said before anything is served."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

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
