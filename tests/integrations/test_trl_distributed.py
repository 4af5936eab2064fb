"""Two processes under TRL do what one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")

from forked_python import finish_pair
from two_trl_processes import CASES, case_trainer, record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    finish_pair(Path(__file__).parent / "two_trl_processes.py", folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_twice_the_accumulation(name: str, results: Path, tmp_path: Path) -> None:
    number = list(CASES).index(name)
    run = case_trainer(tmp_path, name, gradient_accumulation_steps=2)
    alone = record(run)
    assert len(alone["log"]) == 3
    for rank in range(2):
        found = json.loads((results / f"{number}.{rank}.json").read_text())
        for row, expected in zip(found["log"], alone["log"], strict=True):
            # transformers adds the losses up in float32, however they are computed.
            assert row == pytest.approx(expected, rel=1e-6)
        assert found["evaluation"] == pytest.approx(alone["evaluation"], rel=1e-9)
        trained = torch.load(results / f"{number}.{rank}.pt")
        torch.testing.assert_close(trained, run.model.state_dict(), rtol=1e-9, atol=1e-12)
