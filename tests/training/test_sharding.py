"""Scores of a model that is split over processes, as FSDP 2 splits it.

accelerate turns its FSDP configurations into plain data parallelism where there is no GPU, so what it calls on one,
``fully_shard``, is called here itself.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_shards import loss_of, make_batch, make_model

pytestmark = pytest.mark.slow


def test_a_model_split_over_processes_has_the_gradients_of_a_whole_one(tmp_path):
    script = Path(__file__).parent / "two_shards.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    for tied in (False, True):
        model = make_model(tied=tied)
        sum(loss_of(model, make_batch(rank)) for rank in range(2)).backward()
        found = torch.load(tmp_path / f"tied_{tied}.pt")
        assert found.keys() == {name for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)
