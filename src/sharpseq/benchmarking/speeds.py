"""What the turns of a system say: milliseconds a sentence, how long a sentence waits, how many times the rival's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from sharpseq.benchmarking.turns import Round, Turn


@dataclass(frozen=True)
class BatchSpeed:
    """Speed of a system at one batch size.

    Args:
        batch_size: Sentences handed over at once.
        milliseconds: Time of a pass by the number of sentences, median over the rounds.
        milliseconds_low: In the fastest round.
        milliseconds_high: In the slowest round.
        waits: 50th, 95th and 99th percentile of the milliseconds that a sentence waits for its output, which is the
            time of its batch, over all sentences and rounds.
        sentences_per_second: Throughput, median over the rounds.
        processor_milliseconds: Time of all threads on a processor by the number of sentences, median over the rounds;
            unlike the others, it hardly depends on what else the machine does.
        speed_up: Time of the baseline by its own in the same round, median over the rounds; None without a baseline.
        speed_up_low: In the round where that is smallest.
        speed_up_high: In the round where that is largest.
    """

    batch_size: int
    milliseconds: float
    milliseconds_low: float
    milliseconds_high: float
    waits: tuple[float, float, float]
    sentences_per_second: float
    processor_milliseconds: float
    speed_up: float | None = None
    speed_up_low: float | None = None
    speed_up_high: float | None = None

    @property
    def busy_cores(self) -> float:
        """Return how many cores it kept busy."""
        return self.processor_milliseconds / self.milliseconds


def batch_speeds(
    rounds: Sequence[Round], system: str, *, num_sentences: int, baseline: str | None = None
) -> list[BatchSpeed]:
    """Return the speed of a system at every batch size.

    Args:
        rounds: The rounds, at least one.
        system: Name of the system.
        num_sentences: How many sentences were timed.
        baseline: Name of the system whose time its own is compared with.
    """
    own = _turns_of(rounds, system)
    other = {} if baseline is None else _turns_of(rounds, baseline)
    return [_speed(turns, other.get(batch_size, []), num_sentences=num_sentences) for batch_size, turns in own.items()]


def best_throughput(speeds: Sequence[BatchSpeed]) -> BatchSpeed:
    """Return the speed at the batch size with the largest throughput."""
    return max(speeds, key=lambda speed: speed.sentences_per_second)


def _turns_of(rounds: Sequence[Round], system: str) -> dict[int, list[Turn]]:
    """Return the turns of a system by batch size, one a round."""
    found: dict[int, list[Turn]] = {}
    for each in rounds:
        for turn in each.turns:
            if turn.system == system:
                found.setdefault(turn.batch_size, []).append(turn)
    return found


def _speed(turns: Sequence[Turn], baseline: Sequence[Turn], *, num_sentences: int) -> BatchSpeed:
    batch_size = turns[0].batch_size
    milliseconds = [1000 * turn.seconds / num_sentences for turn in turns]
    # Every sentence of a batch waits for the whole batch.
    counts = [min(batch_size, num_sentences - start) for start in range(0, num_sentences, batch_size)]
    waits = np.concatenate([np.repeat(turn.batch_seconds, counts) for turn in turns])
    p50, p95, p99 = (1000 * np.quantile(waits, [0.5, 0.95, 0.99])).tolist()
    speed_ups = [other.seconds / turn.seconds for turn, other in zip(turns, baseline, strict=bool(baseline))]
    return BatchSpeed(
        batch_size=batch_size,
        milliseconds=median(milliseconds),
        milliseconds_low=min(milliseconds),
        milliseconds_high=max(milliseconds),
        waits=(p50, p95, p99),
        sentences_per_second=1000 / median(milliseconds),
        processor_milliseconds=1000 * median(turn.processor_seconds for turn in turns) / num_sentences,
        speed_up=median(speed_ups) if speed_ups else None,
        speed_up_low=min(speed_ups, default=None),
        speed_up_high=max(speed_ups, default=None),
    )
