"""Sentences of several requests share batches, in turn, and nothing waits in vain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from sharpseq.serving.batching import Batcher, BatchLimits, Closing, QueueFull
from sharpseq.serving.translators import Pair, Translation, Wish

FAST = Wish(Pair("en", "de"))
BEST = Wish(Pair("en", "de"), "best")
LONG = "a" * 100


class Queue:
    """A batcher whose model is busy with one sentence until `release` is called."""

    def __init__(self, translator: Any, **limits: Any) -> None:
        self.translator = translator
        self.batcher = Batcher(translator, BatchLimits(**limits))
        translator.gate.clear()
        self.batcher.submit(["first"], FAST, timeout=10)
        assert translator.is_busy.wait(10)

    def submit(self, *sentences: str, wish: Wish = FAST, timeout: float = 10) -> list[Future[Translation]]:
        return self.batcher.submit(sentences, wish, timeout=timeout)

    def release(self) -> list[list[str]]:
        """Let the model work until nothing waits, and return its batches after the first sentence."""
        self.translator.gate.set()
        self.batcher.close()
        first, *batches = [sentences for sentences, _ in self.translator.batches]
        assert first == ["first"]
        return batches


@pytest.fixture
def queue(translator: Any) -> Iterator[Any]:
    with ExitStack() as closing:

        def make(**limits: Any) -> Queue:
            made = Queue(translator, **limits)
            closing.callback(made.batcher.close)
            closing.callback(translator.gate.set)
            return made

        yield make


def test_requests_share_a_batch(queue: Any) -> None:
    waiting = queue(max_batch=32)
    futures = [waiting.submit(f"sentence {number}")[0] for number in range(20)]
    assert [len(batch) for batch in waiting.release()] == [20]
    assert [future.result().text for future in futures] == [f"SENTENCE {number}" for number in range(20)]


def test_a_long_request_does_not_hold_up_a_short_one(queue: Any) -> None:
    waiting = queue(max_batch=4)
    waiting.submit(*(f"long {number}" for number in range(40)))
    waiting.submit("short 1", "short 2")
    waiting.submit("other")
    batches = waiting.release()
    assert batches[0] == ["long 0", "short 1", "other", "long 1"]
    assert "short 2" in batches[1]
    assert len(batches) == 11


def test_requests_lead_in_turn(queue: Any) -> None:
    waiting = queue(max_batch=2)
    waiting.submit(*(f"{number}" for number in range(4)))
    waiting.submit(LONG, LONG)
    assert [batch[0] for batch in waiting.release()] == ["0", LONG, "2"]


def test_batches_mix_neither_lengths_nor_wishes(queue: Any, translator: Any) -> None:
    waiting = queue()
    waiting.submit("a", LONG, "b", wish=FAST)
    waiting.submit("c", LONG, wish=BEST)
    waiting.submit("d", wish=FAST)
    assert waiting.release() == [["a", "d", "b"], ["c"], [LONG], [LONG]]
    assert [wish for _, wish in translator.batches[1:]] == [FAST, BEST, FAST, BEST]


def test_the_queue_is_bounded(queue: Any) -> None:
    waiting = queue(max_queue=3)
    kept = waiting.submit("a", "b")
    with pytest.raises(QueueFull):
        waiting.submit("c", "d")
    kept += waiting.submit("e")
    assert waiting.release() == [["a", "e", "b"]]
    assert [future.result().text for future in kept] == ["A", "B", "E"]


def test_what_is_late_or_cancelled_is_not_translated(queue: Any) -> None:
    waiting = queue()
    [late] = waiting.submit("late", timeout=0)
    [left] = waiting.submit("left")
    [kept] = waiting.submit("kept")
    left.cancel()
    time.sleep(0.01)
    assert waiting.release() == [["kept"]]
    assert late.cancelled() and left.cancelled() and kept.result().text == "KEPT"


def test_a_sentence_that_breaks_the_model_takes_no_other_down(queue: Any) -> None:
    waiting = queue()
    [good], [bad], [other] = waiting.submit("good"), waiting.submit("POISON"), waiting.submit("other")
    waiting.release()
    assert (good.result().text, other.result().text) == ("GOOD", "OTHER")
    with pytest.raises(RuntimeError, match="a bug"):
        bad.result()


def test_closing_finishes_what_waits_and_takes_nothing_new(queue: Any) -> None:
    waiting = queue(max_batch=1)
    futures = waiting.submit("a", "b", "c")
    waiting.release()
    assert [future.result(0).text for future in futures] == ["A", "B", "C"]
    with pytest.raises(Closing):
        waiting.submit("d")


def test_an_idle_model_waits_for_company_but_not_with_a_full_batch(translator: Any) -> None:
    batcher = Batcher(translator, BatchLimits(max_batch=2, max_wait=5))
    began = time.monotonic()
    futures = [batcher.submit([sentence], FAST, timeout=10)[0] for sentence in ("a", "b")]
    assert [future.result(10).text for future in futures] == ["A", "B"]
    assert time.monotonic() - began < 4
    assert len(translator.batches) == 1
    batcher.close()


def test_nothing_to_translate(translator: Any) -> None:
    batcher = Batcher(translator)
    assert batcher.submit([], FAST, timeout=1) == []
    batcher.close()


@pytest.mark.parametrize("limits", [{"max_batch": 0}, {"max_queue": 0}, {"max_wait": -1.0}])
def test_wrong_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        BatchLimits(**limits)
