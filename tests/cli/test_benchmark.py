"""``sharpseq benchmark``: one real run against CTranslate2, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Command = Callable[..., Result]


@pytest.mark.slow
def test_against_ctranslate2(ctc_run: Path, teacher_run: Path, command: Command) -> None:
    pytest.importorskip("ctranslate2")
    command("export", teacher_run, "rival", "--quantization", "int8")
    options = ("--batch-sizes", "1,4", "--rounds", 1, "--metric", "chrf", "--output", "speed")
    shown = command("benchmark", f"{ctc_run},name=mine", f"{ctc_run}:test", "--against", "rival", *options).stdout
    assert "times as fast as rival" in shown
    document = json.loads(Path("speed/benchmark.json").read_text(encoding="utf-8"))
    assert [each["system"]["engine"] for each in document["systems"]] == ["ctranslate2", "torch"]
    assert document["systems"][0]["settings"]["dtype"].startswith("int8")
    assert all(each["disk_bytes"] > 0 for each in document["systems"])
    assert {path.name for path in Path("speed").iterdir()} == {"benchmark.json", "benchmark.png"}


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("DATA",), "give at least one MODEL before the data"),
        (("RUN", "DATA", "--against", "missing/export"), "--against missing/export: no export for CTranslate2"),
        (("RUN", "DATA", "--against", "RUN"), "no export for CTranslate2; make one"),
        (("RUN", "RUN", "DATA"), "two systems are called"),
        (("RUN,bf16", "DATA"), "bf16: write it as KEY=VALUE"),
        (("RUN,dtype=int8", "DATA"), "`dtype` must be one of float32, bfloat16"),
        (("RUN", "DATA", "--batch-sizes", "0"), "--batch-sizes 0: '0' is not a whole number of at least 1"),
        (("RUN", "DATA", "--no-rival", " "), "--no-rival is empty"),
        (("RUN", "DATA", "--no-rival", "x", "--against", "y"), "leave one out"),
        (("RUN", "empty.tsv"), "empty.tsv is empty"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], reported: str, ctc_run: Path, mistake: Command) -> None:
    Path("empty.tsv").write_text("")
    given = [each.replace("RUN", str(ctc_run)).replace("DATA", f"{ctc_run}:test") for each in arguments]
    assert reported in mistake("benchmark", *given).stderr
