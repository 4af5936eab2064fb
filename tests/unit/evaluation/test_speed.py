"""Latency on a clock that the test turns."""

from __future__ import annotations

import pytest
import torch

from sharpseq import timed_passes
from sharpseq.evaluation import measure_latency


class Clock:
    """Stands for `perf_counter`, and for a system that takes a known time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.batches: list[list[str]] = []
        monkeypatch.setattr(timed_passes, "perf_counter", lambda: self.now)

    def generate(self, batch: list[str]) -> list[str]:
        self.now += self.seconds[len(self.batches)]
        self.batches.append(batch)
        return [f"{line} !" for line in batch]


def test_median_and_spread_over_repetitions_without_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    # One warm-up batch, then three passes of two batches each: 0.6, 0.3 and 0.9 seconds for 3 sentences.
    clock = Clock(monkeypatch, [100.0, 0.4, 0.2, 0.2, 0.1, 0.5, 0.4])
    [result] = measure_latency(
        clock.generate, ["a", "b", "c"], batch_sizes=[2], count_tokens=lambda line: len(line.split())
    )
    assert clock.batches == [["a", "b"]] + [["a", "b"], ["c"]] * 3
    assert result.milliseconds_per_sentence == pytest.approx(200)
    assert (result.milliseconds_low, result.milliseconds_high) == pytest.approx((100, 300))
    assert result.sentences_per_second == pytest.approx(5)
    assert result.output_tokens_per_second == pytest.approx(10)
    assert (result.batch_size, result.num_sentences, result.num_repeats) == (2, 3, 3)
    assert result.num_threads == torch.get_num_threads()


def test_every_batch_size_is_warmed_up_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [1.0] * 8)
    results = measure_latency(clock.generate, ["a", "b"], batch_sizes=(1, 8), repeats=1, warmup=2)
    assert [len(batch) for batch in clock.batches] == [1, 1, 1, 1, 2, 2, 2]
    assert [result.milliseconds_per_sentence for result in results] == [1000, 500]
    assert results[0].output_tokens_per_second is None


def test_a_clock_that_stands_still_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    [result] = measure_latency(Clock(monkeypatch, [0.0] * 9).generate, ["a"])
    assert result.sentences_per_second == float("inf")


def test_rejects_a_system_that_loses_sentences() -> None:
    with pytest.raises(ValueError, match="one output per source; got 1 for 2"):
        measure_latency(lambda batch: batch[:1], ["a", "b"], batch_sizes=[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"repeats": 0}, "`repeats`"), ({"warmup": -1}, "`warmup`"), ({"batch_sizes": [1, 0]}, "`batch_sizes`")],
)
def test_rejects_impossible_numbers(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_latency(list, ["a"], **options)


def test_rejects_an_empty_corpus() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        measure_latency(list, [])
