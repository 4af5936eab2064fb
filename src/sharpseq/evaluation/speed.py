"""Wall-clock time from text to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from sharpseq.evaluation.measurement import Number
from sharpseq.timed_passes import Generate, batches_of, timed_pass, warm_up


@dataclass(frozen=True)
class SpeedResult:
    """Time that a system takes at one batch size.

    Args:
        batch_size: Sentences handed over at once; the last batch may be smaller.
        num_sentences: Sentences in one repetition.
        num_repeats: Number of repetitions.
        milliseconds_per_sentence: Median over the repetitions.
        milliseconds_low: Fastest repetition, per sentence.
        milliseconds_high: Slowest repetition, per sentence.
        sentences_per_second: Inverse of the median.
        output_tokens_per_second: At the median; None if nobody counts tokens.
        num_threads: Threads that torch computes with, the only ones counted here.
    """

    batch_size: int
    num_sentences: int
    num_repeats: int
    milliseconds_per_sentence: Number
    milliseconds_low: Number
    milliseconds_high: Number
    sentences_per_second: Number
    output_tokens_per_second: Number | None
    num_threads: int


def measure_latency(
    generate: Generate,
    sources: Sequence[str],
    *,
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 3,
    warmup: int = 1,
    count_tokens: Callable[[str], int] | None = None,
) -> list[SpeedResult]:
    """Measure how long a system takes from source text to output text.

    The clock runs over everything ``generate`` does: tokenisation, the network, collapse and detokenisation. Sentences
    are taken in the order given; sorting them by length is the system's business and is then on the clock as well.

    Args:
        generate: Maps a batch of source sentences to as many outputs.
        sources: Sentences to generate from, all of them once per repetition.
        batch_sizes: Batch sizes to measure, one after the other.
        repeats: Number of timed passes over ``sources``.
        warmup: Number of untimed batches before each batch size, for caches, lazy compilation and the clock frequency.
        count_tokens: Counts the tokens of an output; not on the clock.

    Returns:
        One result per batch size.

    Raises:
        ValueError: If there are no sources, a number is too small, or ``generate`` returns another number of outputs.

    Example:
        >>> [result] = measure_latency(lambda batch: [line.upper() for line in batch], ["a", "b"], batch_sizes=[2])
        >>> result.batch_size, result.num_sentences
        (2, 2)
    """
    if len(sources) == 0:
        raise ValueError("`sources` must hold at least one sentence; got none")
    if repeats < 1:
        raise ValueError(f"`repeats` must be at least 1; got {repeats}")
    if warmup < 0:
        raise ValueError(f"`warmup` must be at least 0; got {warmup}")
    for batch_size in batch_sizes:
        if batch_size < 1:
            raise ValueError(f"`batch_sizes` must be at least 1; got {batch_size}")
    results = []
    for batch_size in batch_sizes:
        batches = batches_of(sources, batch_size)
        warm_up(generate, batches, count=warmup)
        passes = [timed_pass(generate, batches) for _ in range(repeats)]
        num_tokens = None if count_tokens is None else sum(map(count_tokens, passes[-1].outputs))
        seconds = [sum(each.batch_seconds) for each in passes]
        results.append(_result(seconds, batch_size, num_sentences=len(sources), num_tokens=num_tokens))
    return results


def _result(seconds: list[float], batch_size: int, *, num_sentences: int, num_tokens: int | None) -> SpeedResult:
    """Summarise the repetitions of one batch size."""
    import torch

    middle = median(seconds)
    per_sentence = 1000 / num_sentences
    return SpeedResult(
        batch_size=batch_size,
        num_sentences=num_sentences,
        num_repeats=len(seconds),
        milliseconds_per_sentence=per_sentence * middle,
        milliseconds_low=per_sentence * min(seconds),
        milliseconds_high=per_sentence * max(seconds),
        sentences_per_second=_rate(num_sentences, middle),
        output_tokens_per_second=None if num_tokens is None else _rate(num_tokens, middle),
        num_threads=torch.get_num_threads(),
    )


def _rate(count: int, seconds: float) -> float:
    """Return the count per second; infinite if the clock is too coarse to see a trivial system."""
    return count / seconds if seconds > 0 else float("inf")
