"""How many threads torch computes with on a CPU: all cores on an idle machine, one beside other busy programs.

With other programs on the cores, threads that wait for each other make a small model five to ten times slower than one
thread alone. Which is faster is measured, by products of the size that small models make, in about half a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_VARIABLE = "OMP_NUM_THREADS"
_SECONDS = 0.12
_ROUNDS = 2
_CLEARLY = 1.15
"""One thread must be beaten by this factor: it disturbs nobody, and gives the same bits every time."""
_REPORTS_ON_ONE_THREAD = 10


@dataclass(frozen=True)
class ThreadChoice:
    """What was chosen and why.

    Args:
        num_threads: Threads that torch uses now.
        speeds: Measured speeds, in products a second, by number of threads; empty where nothing was measured.
    """

    num_threads: int
    speeds: Mapping[int, float]

    def __str__(self) -> str:
        """Say the choice on one line."""
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        if not self.speeds:
            return threads
        measured = ", ".join(f"{count}: {speed:,.0f}" for count, speed in self.speeds.items())
        return f"{threads} (products a second by threads: {measured}; {_VARIABLE} overrides this)"


def choose_num_threads() -> ThreadChoice:
    """Measure whether one thread or all cores are faster now, and make torch use what is.

    Nothing is measured or changed where ``OMP_NUM_THREADS`` is set, on one core, or beside an accelerator.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if os.environ.get(_VARIABLE) or cores == 1 or torch.accelerator.is_available():
        return ThreadChoice(torch.get_num_threads(), {})
    speeds = dict.fromkeys((1, cores), 0.0)
    for _ in range(_ROUNDS):
        for count in speeds:
            torch.set_num_threads(count)
            speeds[count] = max(speeds[count], _products_a_second())
    chosen = cores if speeds[cores] > _CLEARLY * speeds[1] else 1
    torch.set_num_threads(chosen)
    return ThreadChoice(chosen, speeds)


def _products_a_second() -> float:
    """Return the speed of one layer of a small model, forward, in products a second."""
    import torch

    states, weight = torch.ones(1500, 128), torch.ones(512, 128)
    done, began = 0, time.perf_counter()
    with torch.inference_mode():
        while (elapsed := time.perf_counter() - began) < _SECONDS:
            torch.relu(states @ weight.T).sum()
            done += 1
    return done / elapsed


class ThreadWatch:
    """Chooses again when work has become slow, or after a while on one thread: other programs start and end.

    Args:
        say: Called with a line when the number of threads changes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._choice: ThreadChoice | None = None
        self._best = 0.0
        self._num_slow = 0
        self._num_reports = 0

    def begin(self) -> None:
        """Choose for the work that begins now."""
        choice = choose_num_threads()
        if choice.speeds and (self._choice is None or choice.num_threads != self._choice.num_threads):
            self._say(f"computing with {choice}")
        self._choice, self._best, self._num_slow, self._num_reports = choice, 0.0, 0, 0

    def report(self, speed: float) -> None:
        """Say how fast the work goes.

        Two reports in a row below two thirds of the best make it choose again; so does every tenth on one thread.
        """
        if self._choice is None or not self._choice.speeds:
            return
        self._num_reports += 1
        self._num_slow = self._num_slow + 1 if speed < 2 / 3 * self._best else 0
        self._best = max(self._best, speed)
        if self._num_slow >= 2 or (self._choice.num_threads == 1 and self._num_reports >= _REPORTS_ON_ONE_THREAD):
            self.begin()
