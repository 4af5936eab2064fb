"""Training arguments: those of transformers, and the few that sequence training adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from sharpseq.training.glancing_ratio import Glancing
from sharpseq.training.kl_penalty import ARGUMENTS, KlPenalty
from sharpseq.training.number_arguments import plain_argument

REDUCTIONS = ("sequence_mean", "token_mean")


@dataclass
class SequenceTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with token-budget batches, the reduction of the loss and its regularizers.

    The optimiser defaults are those of the convex paper: Adam with β = (0.9, 0.98) and ε = 1e-8.
    """

    per_device_train_batch_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Token budget of a batch: sentences times the longest of them, padding included. "
            "Without it, `per_device_train_batch_size` examples make a batch."
        },
    )
    reduction: str = field(
        default="sequence_mean",
        metadata={
            "help": "`sequence_mean` (usual for one-pass models) or `token_mean` (sequences counted "
            "by their length, usual for autoregressive models); over the whole accumulation window and all processes."
        },
    )
    divide_by_mean_weight: bool = field(
        default=False,
        metadata={"help": "Divide the loss by the detached mean of its weights f'(g) over the accumulation window."},
    )
    length_weight: float = field(
        default=0.1, metadata={"help": "Weight of the length prediction loss, for models that predict a length."}
    )
    kl_weight: Any = field(
        default=1.0,
        metadata={
            "help": "Weight of the KL divergence of a latent variable, a number or a schedule; 1 is the evidence lower "
            "bound."
        },
    )
    free_bits: Any = field(
        default=0.0,
        metadata={"help": "KL in nats that each dimension has for free at each position, a number or a schedule."},
    )
    kl_budget: Any = field(
        default=0.0, metadata={"help": "KL in nats that each position has for free, a number or a schedule."}
    )
    glancing: Any = field(
        default=0.0,
        metadata={
            "help": "Share of its wrong tokens that a one-pass model is shown in training, a number or a schedule."
        },
    )
    ema_decay: float = field(
        default=0.0,
        metadata={
            "help": "Decay of an exponential moving average of the weights, which is validated and saved in their "
            "place, such as 0.999; 0 for none."
        },
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "β₂ of Adam."})
    per_device_eval_batch_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Token budget of an evaluation batch. Without it, `per_device_eval_batch_size` examples make one."
        },
    )

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` must be one of {', '.join(REDUCTIONS)}; got {self.reduction!r}")
        for name in ("per_device_train_batch_tokens", "per_device_eval_batch_tokens"):
            budget = getattr(self, name)
            if budget is not None and budget < 1:
                raise ValueError(f"`{name}` must be at least 1; got {budget}")
        if self.length_weight < 0:
            raise ValueError(f"`length_weight` must be at least 0; got {self.length_weight}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` must be in [0, 1); got {self.ema_decay}")
        # These raise an error if a value is out of range.
        KlPenalty.of(self)
        Glancing.of(self)
        # transformers refuses bf16 on a machine without accelerator unless `use_cpu` is set.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        # Every parameter of these models is used in every batch; looking for unused ones costs time and warns.
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False
        super().__post_init__()
        # The collator chooses the columns, a non-finite loss must stop the run instead of being replaced in the logs,
        # and every process already has the same number of batches.
        self.remove_unused_columns = False
        self.logging_nan_inf_filter = False
        accelerator_config: Any = self.accelerator_config
        accelerator_config.even_batches = False

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON can hold them, schedules as mappings."""
        values: dict[str, Any] = super().to_dict()
        return {**values, **{name: plain_argument(values[name]) for name in (*ARGUMENTS, "glancing")}}
