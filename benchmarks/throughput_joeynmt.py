"""JoeyNMT's half of the training throughput benchmark; runs in JoeyNMT's own environment.

Writes JoeyNMT's configuration, lets its own training loop run, and stamps the end of each update.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from joeynmt import training
from joeynmt.helpers import make_model_dir


def configuration(folder: Path, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return JoeyNMT's configuration for the sizes of the benchmark."""
    side = {"level": "word", "voc_file": str(folder / "vocabulary.txt")}
    stack = {
        "type": "transformer",
        "num_layers": sizes["layers"],
        "num_heads": sizes["heads"],
        "embeddings": {"embedding_dim": sizes["width"], "scale": True},
        "hidden_size": sizes["width"],
        "ff_size": sizes["feed_forward"],
        "dropout": sizes["dropout"],
        "layer_norm": "pre",
    }
    return {
        "name": "throughput",
        "model_dir": str(folder / "joeynmt"),
        "use_cuda": False,
        "random_seed": 1,
        "data": {
            "train": str(folder / "train"),
            # Must be there; no validation falls into the run.
            "dev": str(folder / "train"),
            "dataset_type": "plain",
            "sample_dev_subset": 10,
            "src": {"lang": "source", **side},
            "trg": {"lang": "target", **side},
        },
        "testing": {"beam_size": 1},
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": 1e-3,
            "learning_rate_min": 1e-9,
            # The default, `plateau`, passes an argument that torch 2.13 no longer knows.
            "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": 100,
            "clip_grad_norm": 1.0,
            "normalization": "tokens",
            "label_smoothing": sizes["label_smoothing"],
            "batch_type": "token",
            "batch_size": sizes["per_device_train_batch_tokens"],
            "epochs": 10**6,
            "updates": sizes["warmup_updates"] + sizes["updates"],
            "logging_freq": 1,
            "validation_freq": 10**9,
            "overwrite": True,
        },
        "model": {
            "initializer": "xavier_uniform",
            "embed_initializer": "xavier_uniform",
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": stack,
            "decoder": {**stack, "embeddings": dict(stack["embeddings"])},
        },
    }


class TimedTrainManager(training.TrainManager):
    """JoeyNMT's training loop, which stamps the end of each update where it would have logged."""

    positions = 0
    parameters = 0
    stamps: list[dict[str, float]] = []  # noqa: RUF012  # JoeyNMT makes the only instance itself and keeps it

    def _train_step(self, batch: Any) -> Any:
        type(self).positions += batch.trg.numel()
        return super()._train_step(batch)

    def _log_scores(self, *_: Any, **__: Any) -> None:
        self.stamps.append(
            {
                "seconds": time.perf_counter(),
                "cpu_seconds": time.process_time(),
                "tokens": self.stats.total_tokens,
                "positions": self.positions,
            }
        )
        type(self).parameters = sum(parameter.numel() for parameter in self.model.parameters())


def main(folder: Path, output: Path) -> None:
    """Train, and write the stamps as JSON."""
    sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    torch.set_num_threads(sizes["threads"])
    settings = configuration(folder, sizes)
    make_model_dir(Path(settings["model_dir"]), overwrite=True)
    training.TrainManager = TimedTrainManager
    training.train(rank=0, world_size=None, cfg=settings, skip_test=True)
    versions = {name: version(name) for name in ("joeynmt", "torch")}
    measured = {
        "parameters": TimedTrainManager.parameters,
        "versions": versions,
        "stamps": TimedTrainManager.stamps,
    }
    output.write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
