"""Share of outputs that equal a reference."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.declarations import Declaration
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.ratio import RatioMetric


def matches_reference(hypothesis: str, references: Sequence[str]) -> bool:
    """Return whether the hypothesis equals one of the references, up to the amount of whitespace.

    Args:
        hypothesis: The output.
        references: Its references.

    Example:
        >>> matches_reference("K AE1 T ", ["K AA1 T", "K AE1 T"])
        True
    """
    symbols = hypothesis.split()
    return any(symbols == reference.split() for reference in references)


def exact_match() -> RatioMetric:
    """Make the share of outputs that equal one of their references, in percent.

    Example:
        >>> metric = exact_match()
        >>> float(metric.aggregate(metric.statistics(["a", "b"], [["a", "c"], ["d"]]).sum(axis=0)))
        50.0
    """
    return RatioMetric(lambda hypothesis, references: (float(matches_reference(hypothesis, references)), 1.0))


EXACT_MATCH = MetricSpec(
    Declaration("exact_match", "share of outputs that equal a reference", "Rajpurkar et al. 2016"),
    exact_match,
    higher_is_better=True,
    unit="percent",
)
