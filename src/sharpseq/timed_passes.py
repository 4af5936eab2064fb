"""Passes of a system over sentences, batch by batch, on the clock.

It imports nothing, so that a process can measure an engine without the memory of other libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import TypeAlias

Generate: TypeAlias = Callable[[list[str]], list[str]]
"""Maps a batch of source sentences to as many outputs."""


@dataclass(frozen=True)
class TimedPass:
    """One pass over all sentences.

    Args:
        outputs: The outputs, in order.
        batch_seconds: Seconds of each batch.
    """

    outputs: tuple[str, ...]
    batch_seconds: tuple[float, ...]


def batches_of(sources: Sequence[str], batch_size: int) -> list[list[str]]:
    """Cut sentences, in the order given, into batches; the last one may be smaller.

    Example:
        >>> batches_of(["a", "b", "c"], 2)
        [['a', 'b'], ['c']]
    """
    return [list(sources[start : start + batch_size]) for start in range(0, len(sources), batch_size)]


def warm_up(generate: Generate, batches: Sequence[list[str]], *, count: int) -> None:
    """Run the first batches, as many as told, for caches, lazy compilation and the clock frequency."""
    for index in range(count):
        _timed(generate, batches[index % len(batches)])


def timed_pass(generate: Generate, batches: Sequence[list[str]]) -> TimedPass:
    """Run all batches once, each on the clock.

    Raises:
        ValueError: If ``generate`` returns another number of outputs.
    """
    timed = [_timed(generate, batch) for batch in batches]
    return TimedPass(
        tuple(chain.from_iterable(outputs for _, outputs in timed)), tuple(seconds for seconds, _ in timed)
    )


def _timed(generate: Generate, batch: list[str]) -> tuple[float, list[str]]:
    """Return the seconds that one batch takes, and its outputs."""
    start = perf_counter()
    outputs = generate(batch)
    elapsed = perf_counter() - start
    if len(outputs) != len(batch):
        raise ValueError(f"`generate` must return one output per source; got {len(outputs)} for {len(batch)}")
    return elapsed, outputs
