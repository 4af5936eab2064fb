"""The number of threads of a training, chosen at its start and again when it becomes slow."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sharpseq.processor_threads import ThreadWatch


class ThreadCallback(TrainerCallback):
    """Lets a `ThreadWatch` follow the speed of a training in one process.

    Args:
        watch: The watch.
    """

    def __init__(self, watch: ThreadWatch) -> None:
        self.watch = watch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose for this training."""
        if args.world_size == 1:
            self.watch.begin()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the speed."""
        if args.world_size == 1 and logs and "tokens_per_second" in logs:
            self.watch.report(logs["tokens_per_second"])
