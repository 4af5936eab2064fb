"""What every process of `test_refiner_distributed.py` does: train a refinement network and leave it in a folder.

Started by it, and imported by the test for the single process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_refiner import refiner_trainer
from tiny_task import examples, weights

from sharpseq import SequenceTrainer

REDUCTIONS = {"score": "token_mean", "energy": "sequence_mean"}


def kind_trainer(folder: Path, kind: str, **settings: Any) -> SequenceTrainer:
    """Return the trainer of a kind of network."""
    return refiner_trainer(
        folder,
        kind,
        reduction=REDUCTIONS[kind],
        per_device_train_batch_tokens=40,
        per_device_eval_batch_tokens=30,
        optim="adamw_torch",
        lr_scheduler_type="constant",
        eval_dataset=examples(11, autoregressive=False, seed=5),
        **settings,
    )


def record(run: SequenceTrainer) -> dict[str, Any]:
    """Train, and return the log without times, and the validation."""
    run.train()
    names = ("loss", "grad_norm", "gradient_square", "dot_product", "displacement_square", "cosine")
    log = [{name: row[name] for name in names} for row in run.state.log_history if "loss" in row]
    return {"log": log, "evaluation": run.evaluate()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    output = Path(sys.argv[1])
    for kind in REDUCTIONS:
        trainer = kind_trainer(output / "work", kind)
        rank = trainer.args.process_index
        assert trainer.args.world_size == 2
        (output / f"{kind}.{rank}.json").write_text(json.dumps(record(trainer)))
        torch.save(weights(trainer.model), output / f"{kind}.{rank}.pt")
    # Threads that still talk when Python ends bring the process down.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
