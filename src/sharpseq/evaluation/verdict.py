"""What a comparison of two systems means, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.metrics import METRICS
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.evaluation.tables import SIGNIFICANT, format_number, format_p_value


def verdict(result: EvaluationResult, comparisons: Sequence[Comparison]) -> str:
    """Say whether a system is better than its baseline, by how much, and what chance would do.

    Args:
        result: The system.
        comparisons: Its comparisons with the baseline, the metric that counts first. Others are named where they say
            something else and chance would hardly do it.

    Returns:
        A sentence; empty where a score or the p-value of the first metric is undefined.

    Raises:
        ValueError: If there are no comparisons.

    Example:
        >>> from sharpseq.evaluation import compare_systems, evaluate_outputs
        >>> systems, references = {"old": ["a", "x"] * 9, "new": ["a", "b"] * 9}, [["a"], ["b"]] * 9
        >>> comparisons = compare_systems(systems, references, metrics=["exact_match"])
        >>> new = evaluate_outputs(systems["new"], references, metrics=["exact_match"])
        >>> verdict(new, comparisons).partition(" on ")[0]
        'new is better than old: exact match 100.00 % against 50.00 %'
    """
    if len(comparisons) == 0:
        raise ValueError("`comparisons` must hold at least one comparison; got none")
    first, *others = comparisons
    relation = _relation(result, first)
    if relation is None:
        return ""
    headline = {"": "cannot be told from", "other": "differs from"}.get(relation, f"is {relation} than")
    percent = 100 * first.bootstrap.p_value
    chance = f"{percent:.0f} %" if percent >= 1 else f"{percent:.1g} %"
    exceptions = [
        f"; its {_name(other)}, {_scores(other)}, is {other_relation} ({format_p_value(other.bootstrap.p_value)})"
        for other in others
        if (other_relation := _relation(result, other)) in ("better", "worse") and other_relation != relation
    ]
    return (
        f"{first.system} {headline} {first.baseline}: {_name(first)} {_scores(first)} on the {result.num_sentences:,} "
        f"examples of {first.data}; if the two were equally good, chance would make such a difference in {chance} "
        f"of cases ({format_p_value(first.bootstrap.p_value)}){''.join(exceptions)}."
    )


def _relation(result: EvaluationResult, comparison: Comparison) -> str | None:
    """Return better, worse, or other for a metric without a direction; empty within chance, None where undefined."""
    bootstrap = comparison.bootstrap
    if not all(map(math.isfinite, (bootstrap.system_score, bootstrap.baseline_score, bootstrap.p_value))):
        return None
    if bootstrap.p_value >= SIGNIFICANT:
        return ""
    higher_is_better = result.metrics[comparison.metric].higher_is_better
    if higher_is_better is None:
        return "other"
    return "better" if (bootstrap.difference > 0) == higher_is_better else "worse"


def _name(comparison: Comparison) -> str:
    return comparison.metric.replace("_", " ")


def _scores(comparison: Comparison) -> str:
    metric = comparison.metric
    unit = " %" if metric in METRICS and METRICS[metric].unit == "percent" else ""
    score, baseline = (
        format_number(value, decimals=2) + unit
        for value in (comparison.bootstrap.system_score, comparison.bootstrap.baseline_score)
    )
    return f"{score} against {baseline}"
