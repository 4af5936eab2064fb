"""Several systems against the first one, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.metrics import OnProgress, measure, metric_spec
from sharpseq.evaluation.significance import PairedBootstrap, paired_bootstrap


@dataclass(frozen=True)
class Comparison:
    """One system against a baseline under one metric.

    Args:
        metric: Name of the metric.
        baseline: Name of the baseline system.
        system: Name of the other system.
        data: Name of the data both were measured on.
        bootstrap: Difference, interval and p-value.
    """

    metric: str
    baseline: str
    system: str
    data: str
    bootstrap: PairedBootstrap


def compare_systems(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str | MetricSpec],
    data: str = "data",
    num_resamples: int = 1000,
    seed: int = 12345,
    on_progress: OnProgress | None = None,
) -> list[Comparison]:
    """Compare every system with the first one by a paired bootstrap.

    Args:
        systems: Outputs of every system on the same sentences, by name; the first is the baseline.
        references: The references of every sentence, at least one each.
        metrics: Names in :data:`sharpseq.evaluation.METRICS`, or rows of your own.
        data: Name of the data, for tables.
        num_resamples: Number of resampled corpora; all metrics and systems share them.
        seed: Seed of the resampling.
        on_progress: Called while a metric takes long; see `sharpseq.evaluation.measure`.

    Returns:
        One comparison per metric and system other than the first, metric by metric.

    Raises:
        ValueError: If there are fewer than two systems, or the outputs do not fit the references.

    Example:
        >>> words = {"first": ["a", "b"], "second": ["a", "c"]}
        >>> [comparison] = compare_systems(words, [["a"], ["c"]], metrics=["exact_match"])
        >>> comparison.system, comparison.bootstrap.difference
        ('second', 50.0)
    """
    if len(systems) < 2:
        raise ValueError(f"`systems` must name at least two systems; got {len(systems)}")
    baseline, *others = systems
    comparisons = []
    for metric in metrics:
        spec = metric_spec(metric)
        first = measure(spec, systems[baseline], references, on_progress=on_progress)
        for system in others:
            bootstrap = paired_bootstrap(
                first.statistics,
                measure(spec, systems[system], references, on_progress=on_progress).statistics,
                first.aggregate,
                num_resamples=num_resamples,
                seed=seed,
            )
            comparisons.append(Comparison(spec.name, baseline, system, data, bootstrap))
    return comparisons
