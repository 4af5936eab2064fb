"""Our half of the training throughput benchmark: `SequenceTrainer` on M2M100, stamped at the end of each update."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sharpseq.data import EncodedExample
from sharpseq.evaluation.versions import installed_versions
from sharpseq.models import autoregressive_config, autoregressive_model
from sharpseq.objectives import MaximumLikelihood
from sharpseq.training import SequenceTrainer
from sharpseq.training.arguments import SequenceTrainingArguments

END = 0


class TimedTrainer(SequenceTrainer):
    """Counts target tokens, and target positions with padding."""

    tokens = 0
    positions = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Count, then train as ever."""
        self.tokens += int((inputs["labels"] != -100).sum())
        self.positions += inputs["labels"].numel()
        return super().compute_loss(model, inputs, *args, **kwargs)


class Stamps(TrainerCallback):
    """Notes time, tokens and positions at the end of each update."""

    def __init__(self) -> None:
        self.trainer: TimedTrainer | None = None
        self.rows: list[dict[str, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note."""
        assert self.trainer is not None
        self.rows.append(
            {
                "seconds": time.perf_counter(),
                "cpu_seconds": time.process_time(),
                "tokens": self.trainer.tokens,
                "positions": self.trainer.positions,
            }
        )


def read_rows(path: Path) -> list[list[int]]:
    """Read token ids, one sequence a line, and end each."""
    return [[*map(int, line.split()), END] for line in path.read_text(encoding="utf-8").splitlines()]


def main(folder: Path, output: Path, *, precision: str) -> None:
    """Train, and write the stamps as JSON."""
    sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    torch.set_num_threads(sizes["threads"])
    torch.manual_seed(1)
    rows = zip(read_rows(folder / "train.source"), read_rows(folder / "train.target"), strict=True)
    examples = [EncodedExample(index, source, target) for index, (source, target) in enumerate(rows)]
    model = autoregressive_model(
        autoregressive_config(
            vocab_size=len((folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()),
            d_model=sizes["width"],
            encoder_layers=sizes["layers"],
            decoder_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            ffn_dim=sizes["feed_forward"],
            dropout=sizes["dropout"],
        )
    )
    # On a CPU, the backward of torch 2.13's fused attention is slower than plain products, in bf16 several times.
    model.set_attn_implementation("eager")
    arguments = SequenceTrainingArguments(
        output_dir=str(folder / "sharpseq"),
        max_steps=sizes["warmup_updates"] + sizes["updates"],
        per_device_train_batch_tokens=sizes["per_device_train_batch_tokens"],
        reduction="token_mean",
        learning_rate=1e-3,
        lr_scheduler_type="inverse_sqrt",
        warmup_steps=100,
        max_grad_norm=1.0,
        bf16=precision == "bf16",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
    )
    stamps = Stamps()
    objective = MaximumLikelihood(label_smoothing=sizes["label_smoothing"])
    trainer = TimedTrainer(model, arguments, objective=objective, train_dataset=examples, callbacks=[stamps])
    stamps.trainer = trainer
    trainer.train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    measured = {"parameters": parameters, "versions": installed_versions(), "stamps": stamps.rows}
    output.write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), precision=sys.argv[3])
