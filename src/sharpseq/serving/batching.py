"""Dynamic batching: sentences of several requests go through a model together, and no request waits for a long one.

One thread runs the model. While it works, sentences gather; the next batch is made of sentences of similar length that
want the same of the model, one from each request in turn. An idle model waits a few milliseconds for company.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sharpseq.serving.translators import Translation, Translator, Wish


class QueueFull(Exception):
    """So many sentences wait that another request would only wait in vain."""


class Closing(Exception):
    """The server is going down and takes nothing new."""


@dataclass(frozen=True)
class BatchLimits:
    """How batches are made.

    Args:
        max_batch: Sentences of a batch at most.
        max_wait: Seconds that the first sentence of a batch waits for others while the model is idle.
        max_queue: Sentences that wait at most; more are refused.
    """

    max_batch: int = 32
    max_wait: float = 0.005
    max_queue: int = 4096

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_queue < 1 or not 0 <= self.max_wait < 60:
            raise ValueError(
                f"`max_batch` and `max_queue` must be at least 1 and `max_wait` in [0, 60); got {self.max_batch}, "
                f"{self.max_queue} and {self.max_wait}"
            )


@dataclass(frozen=True)
class BatchKey:
    """What the sentences of a batch have in common."""

    wish: Wish
    length_class: int


@dataclass
class _Job:
    sentence: str
    arrival: float
    deadline: float
    future: Future[Translation] = field(default_factory=Future)


class Batcher:
    """A model with the queue before it.

    Args:
        translator: The model; only the batcher's own thread calls it.
        limits: How batches are made.
        on_batch: Called after each batch with the number of sentences and the seconds that it took.

    Example:
        >>> from sharpseq.serving.translators import Pair
        >>> class Upper:
        ...     def translate(self, sentences, wish):
        ...         return [Translation(sentence.upper()) for sentence in sentences]
        >>> batcher = Batcher(Upper())
        >>> [future.result().text for future in batcher.submit(["a", "b"], Wish(Pair("en", "en")), timeout=5)]
        ['A', 'B']
        >>> batcher.close()
    """

    def __init__(
        self,
        translator: Translator,
        limits: BatchLimits | None = None,
        *,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.limits = limits or BatchLimits()
        self._translator = translator
        self._on_batch = on_batch
        # Requests in the order in which they are served next; of each, its waiting sentences by what they need.
        self._requests: OrderedDict[int, dict[BatchKey, deque[_Job]]] = OrderedDict()
        self._num_waiting = 0
        self._num_requests = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sharpseq-batcher", daemon=True)
        self._thread.start()

    def submit(self, sentences: Sequence[str], wish: Wish, *, timeout: float) -> list[Future[Translation]]:
        """Put the sentences of one request into the queue, all or none.

        Args:
            sentences: The sentences.
            wish: What is wanted of them.
            timeout: Seconds after which the translation is of no use any more; a sentence that still waits then is
                dropped, and its future is cancelled.

        Returns:
            A future for each sentence; cancelling it takes the sentence out of the queue.

        Raises:
            QueueFull: If there is no room for all of them now.
            Closing: If the server goes down.
        """
        now = time.monotonic()
        jobs = [_Job(sentence, now, now + timeout) for sentence in sentences]
        waiting: dict[BatchKey, deque[_Job]] = {}
        for job in jobs:
            key = BatchKey(wish, length_class(job.sentence))
            waiting.setdefault(key, deque()).append(job)
        if not jobs:
            return []
        with self._changed:
            if self._is_closing:
                raise Closing
            if self._num_waiting + len(jobs) > self.limits.max_queue:
                raise QueueFull
            self._num_requests += 1
            self._requests[self._num_requests] = waiting
            self._num_waiting += len(jobs)
            self._changed.notify_all()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Finish what waits, take nothing new, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._requests:
                    if self._is_closing:
                        return
                    self._changed.wait()
                key = self._wait_for_company()
                jobs = self._take(key)
            if jobs:
                self._translate(key.wish, jobs)

    def _wait_for_company(self) -> BatchKey:
        """Return what the next batch is made of, after waiting for more of it if there is little."""
        key, oldest = self._next()
        latest = oldest.arrival + self.limits.max_wait
        while not self._is_closing:
            rest = latest - time.monotonic()
            if rest <= 0 or self._count(key) >= self.limits.max_batch:
                break
            self._changed.wait(rest)
        return key

    def _next(self) -> tuple[BatchKey, _Job]:
        """Return the oldest sentence of the request whose turn it is."""
        waiting = next(iter(self._requests.values()))
        key = min(waiting, key=lambda each: waiting[each][0].arrival)
        return key, waiting[key][0]

    def _count(self, key: BatchKey) -> int:
        return sum(len(waiting[key]) for waiting in self._requests.values() if key in waiting)

    def _take(self, key: BatchKey) -> list[_Job]:
        """Take a batch out of the queue: one sentence of each request in turn, until it is full."""
        jobs: list[_Job] = []
        now = time.monotonic()
        served = [number for number, waiting in self._requests.items() if key in waiting]
        while served and len(jobs) < self.limits.max_batch:
            still_waiting = []
            for number in served:
                if len(jobs) == self.limits.max_batch:
                    break
                waiting = self._requests[number]
                job = waiting[key].popleft()
                self._num_waiting -= 1
                if job.deadline < now:
                    job.future.cancel()
                elif job.future.set_running_or_notify_cancel():
                    jobs.append(job)
                self._requests.move_to_end(number)
                if waiting[key]:
                    still_waiting.append(number)
                else:
                    del waiting[key]
                if not waiting:
                    del self._requests[number]
            served = still_waiting
        return jobs

    def _translate(self, wish: Wish, jobs: Sequence[_Job]) -> None:
        began = time.monotonic()
        try:
            translations = self._translator.translate([job.sentence for job in jobs], wish)
            if len(translations) != len(jobs):
                raise RuntimeError(f"{len(translations)} translations of {len(jobs)} sentences")
        except Exception as error:
            if len(jobs) > 1:
                # One sentence must not take down those of other requests.
                for job in jobs:
                    self._translate(wish, [job])
                return
            jobs[0].future.set_exception(error)
        else:
            for job, translation in zip(jobs, translations, strict=True):
                job.future.set_result(translation)
        self._on_batch(len(jobs), time.monotonic() - began)


def length_class(sentence: str) -> int:
    """Return which sentences it shares batches with: up to 32 characters, up to 64, up to 128 and so on.

    Example:
        >>> [length_class("a" * length) for length in (1, 32, 33, 64, 65)]
        [5, 5, 6, 6, 7]
    """
    return max(len(sentence) - 1, 31).bit_length()
