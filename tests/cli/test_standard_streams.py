"""Terminals and pipes of any encoding, and streams that are closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EVALUATE = ("evaluate", "--hypotheses", "a.txt", "--references", "a.txt", "--metric", "chrf")


def sharpseq(*arguments: str, encoding: str = "utf-8", streams: str = "") -> subprocess.CompletedProcess[bytes]:
    Path("a.txt").write_text("Größe → …\n", encoding="utf-8")
    line = " ".join([sys.executable, "-m", "sharpseq", *arguments, streams])
    return subprocess.run(
        line, shell=True, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_signs_that_an_encoding_lacks_are_replaced(encoding: str) -> None:
    for arguments in (EVALUATE, ("metrics",)):
        done = sharpseq(*arguments, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        # Click takes ASCII for a mistake and writes UTF-8.
        assert "chrf" in done.stdout.decode(encoding, errors="replace")


def test_json_is_utf_8_whatever_the_encoding() -> None:
    done = sharpseq(*EVALUATE, "--json", encoding="cp1252")
    assert json.loads(done.stdout.decode("utf-8"))["hypotheses"] == ["Größe → …"]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell closes streams")
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_end_a_command(streams: str) -> None:
    done = sharpseq(*EVALUATE, "--save", "saved.json", streams=streams)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(Path("saved.json").read_text(encoding="utf-8"))["hypotheses"] == ["Größe → …"]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell opens the stream")
def test_a_stream_that_cannot_be_written_is_one_clear_line() -> None:
    done = sharpseq("metrics", streams="1</dev/null")
    assert done.returncode == 2
    assert done.stderr == b"error: standard output is closed to writing; redirect it to a file, a pipe or a terminal\n"
