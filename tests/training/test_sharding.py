"""Scores of a model that is split over processes, as FSDP 2 splits it.

accelerate turns its FSDP configurations into plain data parallelism where there is no GPU, so what it calls on one,
``fully_shard``, is called here itself.
"""

from pathlib import Path

import pytest
import torch
from forked_python import finish_pair
from two_shards import loss_of, make_batch, make_model

pytestmark = pytest.mark.slow


def test_a_model_split_over_processes_has_the_gradients_of_a_whole_one(tmp_path):
    finish_pair(Path(__file__).parent / "two_shards.py", tmp_path)
    for tied in (False, True):
        model = make_model(tied=tied)
        sum(loss_of(model, make_batch(rank)) for rank in range(2)).backward()
        found = torch.load(tmp_path / f"tied_{tied}.pt")
        assert found.keys() == {name for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)
