"""What every process of the distributed TRL test does: train and validate each case, and leave its results in a folder.

Started by `test_trl_distributed.py`, and imported by it for the single process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_language_model import SETTINGS, dataset, tiny_llama, tiny_tokenizer
from transformers import set_seed

from sharpseq.integrations.trl import SharpSFTConfig, SharpSFTTrainer

# Three updates are less than an epoch; 7 rows of validation leave one process with a repeat.
CASES: Mapping[str, Mapping[str, Any]] = {
    "padded": {"reduction": "token_mean"},
    "padding-free": {"reduction": "sequence_mean", "padding_free": True, "max_length": None},
    "packed": {"reduction": "sequence_mean", "packing": True, "max_length": 12, "eval_packing": False},
    "weights normalised": {"reduction": "token_mean", "divide_by_mean_weight": True},
}


def case_trainer(folder: Path, name: str, **settings: Any) -> SharpSFTTrainer:
    """Return the trainer of a case: 24 rows, in batches of two."""
    set_seed(0)
    arguments = {
        **SETTINGS,
        "output_dir": str(folder),
        "objective_kwargs": {"transform": {"name": "exponential", "k": 0.5}},
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        **CASES[name],
        **settings,
    }
    return SharpSFTTrainer(
        tiny_llama(),
        SharpSFTConfig(**arguments),
        train_dataset=dataset(24),
        eval_dataset=dataset(7, seed=5),
        processing_class=tiny_tokenizer(),
    )


def record(run: SharpSFTTrainer) -> dict[str, Any]:
    """Train, and return the log without times, and the validation."""
    run.train()
    names = ("loss", "grad_norm", "weight_mean", "weight_min", "weight_max", "entropy", "num_tokens")
    log = [{name: row[name] for name in names} for row in run.state.log_history if "loss" in row]
    found = run.evaluate()
    return {"log": log, "evaluation": {name: found[name] for name in ("eval_loss", "eval_nll", "eval_entropy")}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    output = Path(sys.argv[1])
    for number, name in enumerate(CASES):
        run = case_trainer(output / "work", name)
        assert run.args.world_size == 2
        rank = run.args.process_index
        (output / f"{number}.{rank}.json").write_text(json.dumps(record(run)))
        torch.save(run.model.state_dict(), output / f"{number}.{rank}.pt")
    # Threads that still talk when Python ends bring the process down.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
