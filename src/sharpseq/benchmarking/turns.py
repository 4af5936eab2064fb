"""Systems in turns: in each round, all of them are timed at one batch size before the next one (A B A B)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol


class Running(Protocol):
    """A running system, as `sharpseq.benchmarking.worker_process.WorkerProcess`."""

    @property
    def settings(self) -> dict[str, Any]:
        """How it decodes."""
        ...

    @property
    def start_seconds(self) -> float:
        """Seconds until it was ready."""
        ...

    def outputs(self, sentences: list[str]) -> tuple[list[str], list[str | None]]:
        """Return the outputs, and for each why there is none, or None."""
        ...

    def timed(self, sentences: list[str], *, batch_size: int, warmup: int) -> dict[str, Any]:
        """Return the times of one pass."""
        ...


@dataclass(frozen=True)
class Turn:
    """One pass of one system over the timed sentences.

    Args:
        system: Name of the system.
        batch_size: Sentences handed over at once.
        batch_seconds: Seconds of each batch.
        processor_seconds: Seconds that all its threads computed, together.
        peak_bytes: Peak of the resident memory of its process during the pass; None if it is unknown.
        load_average: Processes that wanted to run in the minute before the pass, on the whole machine.
    """

    system: str
    batch_size: int
    batch_seconds: tuple[float, ...]
    processor_seconds: float
    peak_bytes: int | None
    load_average: float

    @property
    def seconds(self) -> float:
        """Return the seconds of the whole pass."""
        return sum(self.batch_seconds)


@dataclass(frozen=True)
class Round:
    """One turn of every system at every batch size.

    Args:
        began: When, in UTC.
        start_seconds: Seconds from the start of each system's process until it was ready, imports included.
        turns: The turns, in the order in which they were taken.
    """

    began: str
    start_seconds: dict[str, float]
    turns: tuple[Turn, ...]


def run_round(
    systems: Mapping[str, Running],
    sentences: list[str],
    *,
    batch_sizes: Sequence[int],
    warmup: int = 2,
    on_turn: Callable[[str, int], None] = lambda system, batch_size: None,
) -> Round:
    """Time all systems in turns.

    Args:
        systems: The running systems by name; each round takes them in this order.
        sentences: What they are timed on.
        batch_sizes: Batch sizes, one after the other.
        warmup: Batches off the clock before each pass.
        on_turn: Called before each turn with the system's name and the batch size.
    """
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    turns = []
    for batch_size in batch_sizes:
        for name, system in systems.items():
            on_turn(name, batch_size)
            load_average = os.getloadavg()[0]
            times = system.timed(sentences, batch_size=batch_size, warmup=warmup)
            times["batch_seconds"] = tuple(times["batch_seconds"])
            turns.append(Turn(name, batch_size, load_average=load_average, **times))
    return Round(began, {name: system.start_seconds for name, system in systems.items()}, tuple(turns))
