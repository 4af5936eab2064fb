"""Two processes train the same refinement network as one with twice the accumulation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from forked_python import finish_pair
from tiny_task import weights
from two_refiners import REDUCTIONS, kind_trainer, record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiners")
    finish_pair(Path(__file__).parent / "two_refiners.py", folder)
    return folder


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_two_processes_are_one_with_twice_the_accumulation(kind: str, results: Path, tmp_path: Path) -> None:
    run = kind_trainer(tmp_path, kind, gradient_accumulation_steps=2)
    alone = record(run)
    for rank in range(2):
        found = json.loads((results / f"{kind}.{rank}.json").read_text())
        assert found["evaluation"] == pytest.approx(alone["evaluation"], rel=1e-9)
        if rank == 0:
            for row, expected in zip(found["log"], alone["log"], strict=True):
                # transformers adds the losses up in float32, however they are computed.
                assert row.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-5)
                assert row == pytest.approx(expected, rel=1e-9)
        trained = torch.load(results / f"{kind}.{rank}.pt")
        torch.testing.assert_close(trained, weights(run.model), rtol=1e-9, atol=1e-12)
