"""The table of metrics, and measuring a corpus with one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from sharpseq.errors import UserError, nearest
from sharpseq.evaluation.error_rates import phoneme_error_rate, word_error_rate
from sharpseq.evaluation.exact_match import exact_match
from sharpseq.evaluation.length_ratio import length_ratio
from sharpseq.evaluation.measurement import Measurement, Metric, MetricResult, check_corpus, present_references
from sharpseq.evaluation.repetition import repetition_rate
from sharpseq.evaluation.rouge import rouge
from sharpseq.evaluation.sacrebleu_metrics import bleu, chrf, ter


@dataclass(frozen=True)
class MetricSpec:
    """A row of :data:`METRICS`.

    Args:
        name: Name in recipes, commands and results.
        description: One line for people.
        reference: Author and year of the definition.
        higher_is_better: Direction; None if the metric has none.
        unit: ``points`` (0 to 100), ``percent`` or ``ratio``.
        factory: Makes the metric with its default settings. For other settings replace it:
            ``dataclasses.replace(METRICS["bleu"], factory=partial(bleu, tokenize="zh"))``.
        slow_from: Words in a line from which on it takes about a second, and much longer for longer lines; None where
            the time grows no faster than the text.
    """

    name: str
    description: str
    reference: str
    higher_is_better: bool | None
    unit: str
    factory: Callable[[], Metric]
    slow_from: int | None = None

    @property
    def slow_notice(self) -> str:
        """A line for people who wait."""
        return f"{self.name}: lines of {self.slow_from} words or more take long, up to minutes each"


OnProgress: TypeAlias = Callable[[MetricSpec, int], None]
"""Called with a metric and how many sentences it has measured, where that takes long."""


_SPECS = (
    MetricSpec(
        "bleu", "n-gram precision with a brevity penalty (sacreBLEU)", "Papineni et al. 2002", True, "points", bleu
    ),
    MetricSpec("chrf", "character n-gram F-score (sacreBLEU)", "Popović 2015", True, "points", chrf),
    MetricSpec(
        "ter",
        "word edits and block shifts per reference word (sacreBLEU)",
        "Snover et al. 2006",
        False,
        "percent",
        ter,
        slow_from=150,
    ),
    MetricSpec(
        "rouge1", "unigram F-measure, mean over sentences", "Lin 2004", True, "points", partial(rouge, "rouge1")
    ),
    MetricSpec("rouge2", "bigram F-measure, mean over sentences", "Lin 2004", True, "points", partial(rouge, "rouge2")),
    MetricSpec(
        "rougeL",
        "F-measure of the longest common subsequence",
        "Lin 2004",
        True,
        "points",
        partial(rouge, "rougeL"),
        slow_from=1000,
    ),
    MetricSpec(
        "exact_match", "share of outputs that equal a reference", "Rajpurkar et al. 2016", True, "percent", exact_match
    ),
    MetricSpec(
        "word_error_rate",
        "share of words that equal no reference pronunciation",
        "Yolchuyeva et al. 2019",
        False,
        "percent",
        word_error_rate,
    ),
    MetricSpec(
        "phoneme_error_rate",
        "edits to the nearest reference per reference symbol",
        "Yolchuyeva et al. 2019",
        False,
        "percent",
        phoneme_error_rate,
    ),
    MetricSpec(
        "repetition_rate",
        "share of output tokens that equal their predecessor",
        "Ghazvininejad et al. 2019",
        False,
        "percent",
        repetition_rate,
    ),
    MetricSpec(
        "length_ratio",
        "output tokens per reference token; best at 1",
        "Papineni et al. 2002",
        None,
        "ratio",
        length_ratio,
    ),
)

METRICS: Mapping[str, MetricSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
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
