"""Numbers for Prometheus: requests, batches, what is in work; never a text."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

PROCESSES_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which several processes add up their numbers."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "sharpseq_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.request_seconds = Histogram(
            "sharpseq_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_sentences = Histogram(
            "sharpseq_batch_sentences", "Sentences of a batch.", ("model",), buckets=_SIZES, registry=self._registry
        )
        self.batch_seconds = Histogram(
            "sharpseq_batch_seconds",
            "Time that the model took for a batch.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.sentences_in_work = Gauge(
            "sharpseq_sentences_in_work",
            "Sentences that wait or are being translated.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.characters = Counter("sharpseq_characters", "Characters of accepted texts.", registry=self._registry)

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that is answered."""
        self.requests.labels(path, str(status)).inc()
        self.request_seconds.labels(path).observe(seconds)

    def record_batch(self, model: str, size: int, seconds: float) -> None:
        """Count a batch that is translated."""
        self.batch_sentences.labels(model).observe(size)
        self.batch_seconds.labels(model).observe(seconds)

    def exposition(self) -> bytes:
        """Return all numbers as Prometheus reads them, those of all worker processes together."""
        registry = self._registry
        if PROCESSES_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
