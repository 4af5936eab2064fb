"""Two processes under TRL, started as a user would start them, do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")

from two_trl_processes import CASES, case_trainer, record

pytestmark = pytest.mark.slow

LAUNCH = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, here = tmp_path_factory.mktemp("processes"), Path(__file__).parent
    paths = [str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", *LAUNCH, str(here / "two_trl_processes.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
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
