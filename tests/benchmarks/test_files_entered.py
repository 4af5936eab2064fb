"""The measure of the package's structure runs and counts files, not imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from files_entered import files_entered, main
from tiny_recipe import write_recipe


def test_a_recipe_and_a_sentence_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = main(write_recipe(tmp_path), "abc")
    assert {"runs/run.py", "training/loss_trainer.py", "models/ctc.py"} <= set(found["recipe_to_gradient_and_report"])
    assert {"generation/sequence_generator.py", "models/ctc.py"} <= set(found["sentence"])
    assert not {name for name in found["sentence"] if name.startswith(("training/", "runs/"))}


def test_nothing_is_nothing() -> None:
    assert files_entered(lambda: None) == []
