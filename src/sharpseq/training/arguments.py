"""Training arguments: those of transformers, and the few that sequence training adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from sharpseq.training.kl_schedule import KlSchedule

REDUCTIONS = ("per_sequence", "per_token")


@dataclass
class SequenceTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with token-budget batches, the reduction of the loss and its regularizers.

    The optimiser defaults are those of the convex paper: Adam with β = (0.9, 0.98) and ε = 1e-8.
    """

    max_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Token budget of a batch: sentences times the longest of them, padding included. "
            "Without it, `per_device_train_batch_size` sentences make a batch."
        },
    )
    reduction: str = field(
        default="per_sequence",
        metadata={
            "help": "`per_sequence` (mean over sequences, usual for one-pass models) or `per_token` (sequences counted "
            "by their length, usual for autoregressive models); over the whole accumulation window and all processes."
        },
    )
    normalize_weights: bool = field(
        default=False,
        metadata={"help": "Divide the loss by the detached mean of its weights f'(g) over the accumulation window."},
    )
    length_weight: float = field(
        default=0.1, metadata={"help": "Weight of the length prediction loss, for models that predict a length."}
    )
    kl_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the KL divergence of a latent variable; 1 is the evidence lower bound."},
    )
    kl_warmup: float = field(
        default=0.0,
        metadata={"help": "Share of the stage over which the weight of the KL rises linearly from 0, in [0, 1]."},
    )
    free_bits: float = field(
        default=0.0, metadata={"help": "KL in nats that each dimension of the latent has for free at each position."}
    )
    kl_budget: float = field(
        default=0.0, metadata={"help": "KL in nats that each position has for free when the stage begins."}
    )
    kl_budget_anneal_from: float = field(
        default=0.5,
        metadata={"help": "Share of the stage after which the budget falls linearly to 0, in [0, 1]; 1 keeps it."},
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "β₂ of Adam."})
    eval_max_tokens: int = field(default=8000, metadata={"help": "Token budget of an evaluation batch."})

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` must be one of {', '.join(REDUCTIONS)}; got {self.reduction!r}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1; got {self.max_tokens}")
        if self.length_weight < 0:
            raise ValueError(f"`length_weight` must be at least 0; got {self.length_weight}")
        KlSchedule.of(self)  # raises where a value is out of range
        # transformers refuses bf16 on a machine without accelerator unless it is told to use the CPU.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        # Every parameter of these models is used in every batch; looking for unused ones costs time and warns.
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False
        super().__post_init__()
        # Columns are ours to choose, a non-finite loss must stop the run instead of being smoothed away, and batches
        # are already the same number for every process.
        self.remove_unused_columns = False
        self.logging_nan_inf_filter = False
        accelerator_config: Any = self.accelerator_config
        accelerator_config.even_batches = False
