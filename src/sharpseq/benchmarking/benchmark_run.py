"""A benchmark: what every system writes for all sentences, then rounds on the clock for some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeAlias

from sharpseq.benchmarking.measured_systems import System
from sharpseq.benchmarking.record import Record, Written
from sharpseq.benchmarking.turns import Round, Running, run_round
from sharpseq.errors import UserError
from sharpseq.evaluation import evenly_spaced

Start: TypeAlias = Callable[[System], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Conditions:
    """What all systems share.

    Args:
        num_threads: Threads that each may compute with.
        num_sentences: At most this many sentences are timed, as far apart in the data as they can be.
        batch_sizes: Batch sizes; all timed sentences at once are measured besides.
        num_rounds: How often each system is measured.
    """

    num_threads: int = 1
    num_sentences: int = 200
    batch_sizes: tuple[int, ...] = (1, 8, 32, 64)
    num_rounds: int = 3


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        written: What each system wrote for all sentences, by system.
        sentences: The timed sentences.
        rounds: The rounds.
    """

    written: dict[str, Written]
    sentences: list[str]
    rounds: tuple[Round, ...]


def run_benchmark(
    systems: Sequence[System],
    sources: Sequence[str],
    conditions: Conditions,
    *,
    start: Start,
    record: Record,
    say: Callable[[str], None] = lambda what: None,
) -> Measured:
    """Run all systems.

    Args:
        systems: The systems, with different names.
        sources: Source sentences, at least one of them not blank.
        conditions: What all systems share.
        start: Starts the process of a system.
        record: Keeps what is done: a benchmark that was stopped goes on after the last whole round.
        say: Called with what is done next, in a few words.

    Raises:
        UserError: If a system cannot be loaded, or no sentence is short enough for all of them.
    """
    with ExitStack() as stack:
        running = {}
        for system in systems:
            say(f"{system.name} starts")
            running[system.name] = stack.enter_context(start(system))
        for name, process in running.items():
            if name not in record.written:
                say(f"{name} writes all {len(sources):,} outputs")
                record.add_written(name, Written(*process.outputs(list(sources)), process.settings))
        sentences = _timed_sentences(sources, record.written, conditions.num_sentences)
        _run_rounds(running, sentences, conditions, record=record, say=say)
    return Measured(record.written, sentences, tuple(record.rounds))


def _run_rounds(
    running: Mapping[str, Running],
    sentences: list[str],
    conditions: Conditions,
    *,
    record: Record,
    say: Callable[[str], None],
) -> None:
    batch_sizes = [size for size in conditions.batch_sizes if size < len(sentences)] + [len(sentences)]
    while len(record.rounds) < conditions.num_rounds:
        number = f"round {len(record.rounds) + 1} of {conditions.num_rounds}"

        def on_turn(name: str, size: int, number: str = number) -> None:
            say(f"{number}: {name}, batch {size}")

        record.add_round(
            run_round(
                running,
                sentences,
                batch_sizes=batch_sizes,
                on_turn=on_turn,
            )
        )


def _timed_sentences(sources: Sequence[str], written: dict[str, Written], count: int) -> list[str]:
    """Return sentences that cost every system time: blank ones and those too long for one of them do not."""
    readable = [
        source
        for number, source in enumerate(sources)
        if source.strip() and not any(each.errors[number] for each in written.values())
    ]
    if not readable:
        raise UserError("no sentence of the data can be timed: all are blank, or too long for one of the systems")
    return evenly_spaced(readable, count)
