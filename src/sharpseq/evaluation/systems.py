"""Running a system on a data set and measuring all there is to measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import OnProgress
from sharpseq.evaluation.results import EvaluationResult, evaluate_outputs
from sharpseq.evaluation.speed import SpeedResult, measure_latency

if TYPE_CHECKING:
    from sharpseq.data import Example

TIMED_BATCH_SIZES = (1, 32)


class Output(Protocol):
    """One output of a system, as `sharpseq.SequenceGenerator` gives them."""

    @property
    def text(self) -> str:
        """The output."""
        ...

    @property
    def log_prob(self) -> float:
        """Its log-probability in nats."""
        ...

    @property
    def num_tokens(self) -> int:
        """Its length in tokens."""
        ...

    @property
    def num_passes(self) -> int:
        """Target-side network passes that wrote it; 0 where there was nothing to write."""
        ...


class System(Protocol):
    """Anything that turns lines into as many outputs, in order, such as `sharpseq.SequenceGenerator`."""

    def generate(self, lines: Iterable[Any], /) -> Iterator[Output]:
        """Write one output for each line."""
        ...


def evaluate_system(
    system: System,
    sources: Sequence[str | Example],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str | MetricSpec],
    name: str = "system",
    data: str = "data",
    latency_sentences: int = 0,
    decoder_settings: Mapping[str, Any] | None = None,
    num_resamples: int = 1000,
    on_progress: OnProgress | None = None,
) -> tuple[EvaluationResult, list[Output]]:
    """Generate from every source, score the outputs and time the system.

    Args:
        system: What generates.
        sources: Source texts, or examples with a history; at least one.
        references: The references of every source, at least one each.
        metrics: Names in :data:`sharpseq.evaluation.METRICS`, or rows of your own.
        name: Name of the system.
        data: Name of the data set.
        latency_sentences: How many of the sources to time, one at a time (latency) and in batches of 32 (throughput);
            0 leaves the speed out.
        decoder_settings: Decoder and its options, for the record.
        num_resamples: Resampled corpora for the 95% intervals; 0 leaves the intervals out.
        on_progress: Called while a metric takes long; see `sharpseq.evaluation.measure`.

    Returns:
        The result, which keeps the outputs' texts, and the outputs themselves.

    Raises:
        ValueError: If there are no sources or the references do not fit them.
    """
    outputs = list(system.generate(sources))
    texts = [source if isinstance(source, str) else source.source for source in sources]
    # Blank sources and those that are too long cost no time.
    timed = [
        source
        for source, text, output in zip(sources, texts, outputs, strict=False)
        if text.strip() and not getattr(output, "error", None)
    ][:latency_sentences]
    speed = _speed(system, timed) if timed else []
    passes = [output.num_passes for output in outputs if output.num_passes]
    result = evaluate_outputs(
        [output.text for output in outputs],
        references,
        metrics=metrics,
        system=name,
        data=data,
        log_prob=[output.log_prob for output in outputs],
        num_tokens=[output.num_tokens for output in outputs],
        speed=speed,
        num_passes=sum(passes) / len(passes) if passes else None,
        num_too_long=_count(outputs, "error"),
        num_at_limit=_count(outputs, "reached_limit"),
        decoder_settings=decoder_settings,
        keep_hypotheses=True,
        num_resamples=num_resamples,
        on_progress=on_progress,
    )
    return result, outputs


def _count(outputs: Sequence[Output], name: str) -> int | None:
    """Return how many outputs have an attribute that is not None; None where outputs of their own kind lack it."""
    if not all(hasattr(output, name) for output in outputs):
        return None
    return sum(getattr(output, name) is not None for output in outputs)


def _speed(system: System, sources: list[Any]) -> list[SpeedResult]:
    return measure_latency(
        lambda lines: [output.text for output in system.generate(lines)], sources, batch_sizes=TIMED_BATCH_SIZES
    )
