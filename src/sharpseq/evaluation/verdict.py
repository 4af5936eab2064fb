"""What a comparison of two systems means, in one sentence."""

from __future__ import annotations

import math

from sharpseq.evaluation.comparison import Comparison
from sharpseq.evaluation.metrics import METRICS
from sharpseq.evaluation.results import EvaluationResult
from sharpseq.evaluation.tables import SIGNIFICANT, format_number, format_p_value


def verdict(result: EvaluationResult, comparison: Comparison) -> str:
    """Say whether a system is better than its baseline, by how much, and what chance would do.

    Args:
        result: The system.
        comparison: Its comparison with the baseline under one of its metrics.

    Returns:
        A sentence; empty where a score or the p-value is undefined.

    Example:
        >>> from sharpseq.evaluation import compare_systems, evaluate_outputs
        >>> systems, references = {"old": ["a", "x"] * 9, "new": ["a", "b"] * 9}, [["a"], ["b"]] * 9
        >>> [comparison] = compare_systems(systems, references, metrics=["exact_match"])
        >>> new = evaluate_outputs(systems["new"], references, metrics=["exact_match"])
        >>> verdict(new, comparison).partition(" on ")[0]
        'new is better than old: exact match 100.00 % against 50.00 %'
    """
    bootstrap, metric = comparison.bootstrap, comparison.metric
    scores = bootstrap.system_score, bootstrap.baseline_score
    if not all(map(math.isfinite, (*scores, bootstrap.p_value))):
        return ""
    higher_is_better = result.metrics[metric].higher_is_better
    if bootstrap.p_value >= SIGNIFICANT:
        relation = "cannot be told from"
    elif higher_is_better is None:
        relation = "differs from"
    else:
        relation = "is better than" if (bootstrap.difference > 0) == higher_is_better else "is worse than"
    percent = 100 * bootstrap.p_value
    chance = f"{percent:.0f}" if percent >= 1 else f"{percent:.1g}"
    unit = " %" if metric in METRICS and METRICS[metric].unit == "percent" else ""
    score, baseline = (format_number(value, decimals=2) + unit for value in scores)
    return (
        f"{comparison.system} {relation} {comparison.baseline}: {metric.replace('_', ' ')} {score} against {baseline} "
        f"on the {result.num_sentences:,} examples of {comparison.data}; if the two were equally good, "
        f"chance would make a difference this large in {chance} % of cases "
        f"({format_p_value(bootstrap.p_value)})."
    )
