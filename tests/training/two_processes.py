"""What every process of a distributed test does: train each case and leave its results in a folder.

Started by `test_distributed.py`, and imported by it for the single process.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_task import examples, trainer, weights

from sharpseq import ConvexComposition, Exponential, MaximumLikelihood, SequenceTrainer
from sharpseq.data import Example, StreamingBatches, train_tokenizer

# 24 examples make an even number of batches, so that one process with two accumulation steps has the same windows.
CASES: Mapping[str, Mapping[str, Any]] = {
    "autoregressive": {"family": "autoregressive", "reduction": "token_mean"},
    "length prediction": {"family": "vanilla_nat", "reduction": "sequence_mean", "length_weight": 0.7},
    "ctc, per token": {"family": "ctc", "reduction": "token_mean", "k": 2.0},
    "graph": {"family": "dag", "reduction": "sequence_mean", "k": 2.0},
    "weights normalised": {"family": "ctc", "reduction": "sequence_mean", "k": 3.0, "divide_by_mean_weight": True},
    "stream": {"family": "ctc", "reduction": "token_mean", "stream": True},
}

TOKENIZER = train_tokenizer(["abcdefghij"], kind="characters")
NUM_STREAMED = 30


def streamed() -> list[Example]:
    """Return words that are their own targets, as `tiny_task.examples` are."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghij", k=generator.randint(2, 6))) for _ in range(NUM_STREAMED)]
    return [Example(word, word) for word in words]


def stream() -> StreamingBatches:
    """Return a stream whose two buffers hold an even number of batches each."""
    return StreamingBatches(streamed, TOKENIZER, append_eos_to_target=False, batch_tokens=25, buffer_size=15)


def case_trainer(folder: Path, name: str, **settings: Any) -> SequenceTrainer:
    """Return the trainer of a case."""
    case = dict(CASES[name])
    family, k, is_stream = case.pop("family"), case.pop("k", None), case.pop("stream", False)
    made = trainer(
        folder,
        family,
        objective=MaximumLikelihood() if k is None else ConvexComposition(Exponential(k)),
        eval_dataset=examples(11, autoregressive=family == "autoregressive", seed=5),
        max_steps=5,
        per_device_train_batch_tokens=40,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        per_device_eval_batch_tokens=30,
        **{**case, **settings},
    )
    if is_stream:
        made.train_dataset = stream()
    return made


def record(run: SequenceTrainer) -> dict[str, Any]:
    """Train, and return what a run leaves: its log without times, its validation and which examples it saw."""
    seen: list[list[int]] = []
    collate = run.data_collator
    run.data_collator = lambda batch: seen.append([example.index for example in batch]) or collate(batch)
    run.train()
    training = list(seen)
    run.data_collator = collate
    names = ("loss", "grad_norm", "learning_rate", "weight_mean", "weight_min", "weight_max")
    log = [{name: row[name] for name in names} for row in run.state.log_history if "loss" in row]
    return {"log": log, "evaluation": run.evaluate(), "seen": training}


def one_process_each(output: Path) -> None:
    """Run every case in this process, one of two."""
    for number, name in enumerate(CASES):
        run = case_trainer(output / "work", name)
        rank = run.args.process_index
        assert run.args.world_size == 2
        # What the processes find differs, as rounding may on different machines; all must go by the first one's.
        run.evaluators = (lambda model, rank=rank: {"own": float(rank)},)
        result = record(run)
        (output / f"{number}.{rank}.json").write_text(json.dumps(result))
        torch.save(weights(run.model), output / f"{number}.{rank}.pt")
    uneven(output)
    checkpoints(output)


def uneven(output: Path) -> None:
    """Train on batches of sentences whose number is odd, which no process may wait for in vain."""
    run = trainer(output / "work", "ctc", count=21, max_steps=-1, num_train_epochs=2, per_device_train_batch_size=8)
    (output / f"uneven.{run.args.process_index}.json").write_text(json.dumps(record(run)))


def checkpoints(output: Path) -> None:
    """Train with dropout, with and without a break at a checkpoint."""
    settings = {
        "per_device_train_batch_tokens": 40,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "dropout": 0.2,
    }
    straight = trainer(output / "straight", "cmlm", **settings)
    straight.train()
    broken = trainer(output / "straight", "cmlm", **settings)
    broken.train(resume_from_checkpoint=str(output / "straight" / "checkpoint-2"))
    rank = straight.args.process_index
    torch.save([weights(straight.model), weights(broken.model)], output / f"checkpoints.{rank}.pt")
    torch.save(torch.rand(3), output / f"random.{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_process_each(Path(sys.argv[1]))
    # Threads that still talk when Python ends bring the process down.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
