from pathlib import Path

import pytest
from tiny_task import trainer


def test_tensorboard_gets_loss_and_weights(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer(tmp_path, "ctc", per_device_train_batch_tokens=100, report_to=["tensorboard"])
    run.train()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    accumulator = reader.EventAccumulator(str(events))
    accumulator.Reload()
    tags = set(accumulator.Tags()["scalars"])
    assert {"train/loss", "train/weight_mean", "train/weight_min", "train/tokens_per_second"} <= tags
    assert len(accumulator.Scalars("train/loss")) == 3
