from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Command = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("data.tsv").write_text("abc\tcba\nhead\tdaeh\nbad\tdab\n", encoding="utf-8")
    return "data.tsv"


def test_an_export_is_checked_and_read_by_the_commands(
    ctc_run: Path, data: str, command: Command, mistake: Command
) -> None:
    made = command("export", ctc_run, "fast", "--to", "openvino", "--check", data, "--metric", "chrf")
    assert "fast: 100.0 % of 3 outputs equal the model's; chrf" in made.stderr
    text = "abc\n\nhead\n"
    assert command("generate", "fast", stdin=text).stdout == command("generate", ctc_run, stdin=text).stdout
    assert "chrf" in command("evaluate", "fast", data, "--metric", "chrf", "--latency", "0").stdout
    assert "leave out --set, and export again" in mistake("generate", "fast", "--set", "x=1", stdin=text).stderr


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["--to", "openvino", "--quantization", "int16"], "--quantization int16 is unknown; give one of int8"),
        (["--check", "data.tsv"], "--check goes with --to openvino only"),
        (["--to", "openvino", "--source-language", "de"], "one-pass models have no languages to choose"),
        (["--to", "openvino", "--check", "data.tsv", "--metric", "blue"], "metric `blue` is unknown"),
    ],
)
def test_mistakes(ctc_run: Path, data: str, mistake: Command, arguments: list[str], reported: str) -> None:
    assert reported in mistake("export", ctc_run, "out", *arguments).stderr
    assert not Path("out").exists()
