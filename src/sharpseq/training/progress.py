"""The progress bar of a training, and the file of its logs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sharpseq.whole_files import write_whole_file


class ProgressBar(ProgressCallback):
    """One progress bar per stage, with loss, tokens per second and time left, instead of a line for every log."""

    training_bar: Any
    prediction_bar: Any

    def __init__(self, description: str = "training") -> None:
        super().__init__()
        self.description = description

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the position of a resumed run."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self.description)
            self.training_bar.initial = self.training_bar.n = self.current_step = state.global_step
            self.training_bar.refresh()

    def close(self) -> None:
        """End the bar's line when training ends early, so that the next message starts on a new line."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()
        self.prediction_bar = self.training_bar = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest numbers next to the bar."""
        if self.training_bar is None or not logs:
            return
        shown = {"loss": "loss", "tokens_per_second": "tok/s", "weight_mean": "f'", "kl": "kl"}
        values = {label: f"{logs[name]:.4g}" for name, label in shown.items() if name in logs}
        if values:
            self.training_bar.set_postfix(values)
        evaluated = {name: f"{value:.4g}" for name, value in logs.items() if name.startswith("eval_")}
        if evaluated:
            step = f"{self.description}, step {state.global_step}: "
            self.training_bar.write(step + ", ".join(f"{name[5:]} {value}" for name, value in evaluated.items()))


class MetricsFile(TrainerCallback):
    """Appends every log as a line of JSON; a resumed stage goes on with the rows that its checkpoint knows."""

    def __init__(self, path: Path, *, stage: str) -> None:
        self.path = path
        self.stage = stage

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the rows of this stage anew from the state to resume: later ones go, and lost ones come back."""
        if not state.is_world_process_zero:
            return
        others = [row for row in read_metrics(self.path) if row["stage"] != self.stage] if self.path.exists() else []
        own = [self._row(entry, step=int(entry["step"]), epoch=entry.get("epoch")) for entry in state.log_history]
        write_whole_file(self.path, "".join(json.dumps(row) + "\n" for row in [*others, *own]))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append one row."""
        if state.is_world_process_zero and logs:
            row = self._row(logs, step=state.global_step, epoch=state.epoch)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _row(self, logs: Mapping[str, Any], *, step: int, epoch: float | None) -> dict[str, Any]:
        return {"stage": self.stage, "step": step, "epoch": round(epoch or 0.0, 4), **logs}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file; lines that are no rows, such as the last one after a kill, are left out."""
    rows = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("stage"), str) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


class StepStatistics:
    """Collects statistics between two logs: tokens per second, mean and spread of the weights f'(g)."""

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._num_tokens = 0.0
        self._seconds = 0.0
        self._step_began = 0.0

    def step_begins(self) -> None:
        """Start the clock of an update; evaluation and saving are not timed."""
        self._step_began = time.perf_counter()

    def step_ends(self) -> None:
        """Stop the clock of an update."""
        self._seconds += time.perf_counter() - self._step_began

    def add(self, *, weights: Tensor, num_tokens: float) -> None:
        """Record the weights (B,) and the target tokens of a micro-batch."""
        self._weights.append(weights)
        self._num_tokens += num_tokens

    def pop(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the statistics since the last call and reset them; empty if nothing was recorded.

        Args:
            gather: Stacks the rows (1, N) of all processes into (P, N).
        """
        if not self._weights:
            return {}
        weights = torch.cat(self._weights).double()
        # An update may have no scored tokens, in one process or in all.
        low, high = (weights.min(), weights.max()) if len(weights) else (weights.new_tensor(x) for x in (inf, -inf))
        others = [len(weights), self._num_tokens, self._seconds]
        row = torch.cat([torch.stack([weights.sum(), low, high]), weights.new_tensor(others)])
        sums, lows, highs, counts, num_tokens, seconds = gather(row[None]).unbind(1)
        slowest, total = seconds.max().item(), num_tokens.sum().item()
        found = {}
        if counts.sum() > 0:
            found["weight_mean"] = (sums.sum() / counts.sum()).item()
            found["weight_min"], found["weight_max"] = lows.min().item(), highs.max().item()
        found["tokens_per_second"] = total / slowest if slowest else 0.0
        self.__init__()  # type: ignore[misc]
        return found


class StepClock(TrainerCallback):
    """Notifies the statistics when an update begins and ends."""

    def __init__(self, statistics: StepStatistics) -> None:
        self.statistics = statistics

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.statistics.step_begins()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop the clock."""
        self.statistics.step_ends()
