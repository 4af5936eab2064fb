"""ROUGE-1, ROUGE-2 and ROUGE-L, computed by the rouge-score package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

from sharpseq.declarations import Declaration
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.ratio import RatioMetric


def rouge(variant: str, *, use_stemmer: bool = True) -> RatioMetric:
    """Make a ROUGE metric: the F-measure of a sentence, averaged over the corpus, in percent.

    With several references a sentence scores its best F-measure. ``rougeL`` takes the longest common subsequence of the
    whole text; papers on CNN/DailyMail usually mean the variant that treats every line apart. The tokeniser of
    rouge-score keeps the letters a to z and digits only: it is made for English.

    Args:
        variant: ``rouge1``, ``rouge2`` or ``rougeL``.
        use_stemmer: Whether Porter's stemmer joins the forms of a word, as the original script does in most papers.

    Raises:
        ImportError: If rouge-score is not installed.
        ValueError: If ``variant`` is none of the three.

    Example:
        >>> metric = rouge("rouge1")
        >>> totals = metric.statistics(["the cats sat"], [["the cat sat"]]).sum(axis=0)
        >>> float(metric.aggregate(totals))
        100.0

    References:
        Lin 2004, "ROUGE: a package for automatic evaluation of summaries".
    """
    if variant not in ("rouge1", "rouge2", "rougeL"):
        raise ValueError(f"`variant` must be rouge1, rouge2 or rougeL; got {variant!r}")
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError("ROUGE needs the rouge-score package: pip install 'sharpseq[rouge]'") from error
    scorer = RougeScorer([variant], use_stemmer=use_stemmer)

    def best_f_measure(hypothesis: str, references: Sequence[str]) -> tuple[float, float]:
        return float(scorer.score_multi(list(references), hypothesis)[variant].fmeasure), 1.0

    stemmer = "yes" if use_stemmer else "no"
    return RatioMetric(best_f_measure, settings=f"refs:best|stem:{stemmer}|rouge-score:{version('rouge-score')}")


ROUGE1 = MetricSpec(
    Declaration("rouge1", "unigram F-measure, mean over sentences", "Lin 2004"),
    partial(rouge, "rouge1"),
    higher_is_better=True,
    unit="points",
)


ROUGE2 = MetricSpec(
    Declaration("rouge2", "bigram F-measure, mean over sentences", "Lin 2004"),
    partial(rouge, "rouge2"),
    higher_is_better=True,
    unit="points",
)


ROUGE_L = MetricSpec(
    Declaration("rougeL", "F-measure of the longest common subsequence", "Lin 2004"),
    partial(rouge, "rougeL"),
    higher_is_better=True,
    unit="points",
    slow_from=1000,
)
