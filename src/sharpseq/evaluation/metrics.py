"""The table of metrics, and measuring a corpus with one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from sharpseq.declarations import method_table
from sharpseq.errors import UserError, nearest
from sharpseq.evaluation.error_rates import PHONEME_ERROR_RATE, WORD_ERROR_RATE
from sharpseq.evaluation.exact_match import EXACT_MATCH
from sharpseq.evaluation.length_ratio import LENGTH_RATIO
from sharpseq.evaluation.measurement import Measurement, MetricResult, check_corpus, present_references
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.repetition import REPETITION_RATE
from sharpseq.evaluation.rouge import ROUGE1, ROUGE2, ROUGE_L
from sharpseq.evaluation.sacrebleu_metrics import BLEU, CHRF, TER

OnProgress: TypeAlias = Callable[[MetricSpec, int], None]
"""Called with a metric and how many sentences it has measured, where that takes long."""


METRICS: Mapping[str, MetricSpec] = method_table(
    BLEU,
    CHRF,
    TER,
    ROUGE1,
    ROUGE2,
    ROUGE_L,
    EXACT_MATCH,
    WORD_ERROR_RATE,
    PHONEME_ERROR_RATE,
    REPETITION_RATE,
    LENGTH_RATIO,
)
"""Every metric by name; read-only."""


def metric_spec(metric: str | MetricSpec) -> MetricSpec:
    """Return the row of a metric; a row is returned as it is.

    Args:
        metric: A name in :data:`METRICS`, or a row of your own.

    Raises:
        ValueError: If there is no metric of that name.

    Example:
        >>> metric_spec("bleu").reference
        'Papineni et al. 2002'
    """
    if isinstance(metric, MetricSpec):
        return metric
    if metric not in METRICS:
        raise ValueError(f"`metric` must be one of {', '.join(METRICS)}; got {metric!r}")
    return METRICS[metric]


def measure(
    metric: str | MetricSpec,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    on_progress: OnProgress | None = None,
) -> Measurement:
    """Measure a corpus with one metric.

    Args:
        metric: A name in :data:`METRICS`, or a row of your own.
        hypotheses: One output per sentence, detokenised.
        references: The references of every sentence, at least one each. A blank one beside another is a missing one.
        on_progress: Called with the metric and the number of sentences done, from 0, if lines are so long
            that the metric takes long; see ``MetricSpec.slow_from``.

    Returns:
        The corpus score and the per-sentence statistics that a bootstrap resamples.

    Raises:
        ImportError: If the metric needs an extra that is not installed.
        TypeError: If a string stands where a sequence of strings is meant.
        ValueError: If there is no such metric, the corpus is empty, the lengths differ, or a sentence has no reference.

    Example:
        >>> measure("word_error_rate", ["K AE T", "D AO"], [["K AE T"], ["D AO G"]]).result.score
        50.0
    """
    spec = metric_spec(metric)
    made = spec.factory()
    check_corpus(hypotheses, references)
    references = [present_references(of_sentence) for of_sentence in references]
    if on_progress is None or not _takes_long(spec, hypotheses, references):
        statistics = made.statistics(hypotheses, references)
    else:
        rows = []
        on_progress(spec, 0)
        for number, (hypothesis, of_sentence) in enumerate(zip(hypotheses, references, strict=True), start=1):
            rows.append(made.statistics([hypothesis], [of_sentence]))
            on_progress(spec, number)
        statistics = np.concatenate(rows)
    result = MetricResult(
        name=spec.name,
        score=float(made.aggregate(statistics.sum(axis=0))),
        signature=made.signature(references),
        higher_is_better=spec.higher_is_better,
    )
    return Measurement(result, statistics, made.aggregate)


def _takes_long(spec: MetricSpec, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> bool:
    if spec.slow_from is None:
        return False
    return any(
        min(len(hypothesis.split()), max(len(reference.split()) for reference in of_sentence)) >= spec.slow_from
        for hypothesis, of_sentence in zip(hypotheses, references, strict=True)
    )


def check_metric(name: str) -> None:
    """Check that there is a metric of this name, and that what it needs is installed.

    Raises:
        UserError: If not; the message names the nearest metric, or the command that installs what is missing.
    """
    if name not in METRICS:
        raise UserError(f"metric `{name}` is unknown; {nearest(name, METRICS)}")
    try:
        METRICS[name].factory()
    except ImportError as error:
        raise UserError(f"metric `{name}`: {error}") from error
