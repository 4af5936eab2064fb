"""BLEU, chrF and TER, computed by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.metrics import bleu as sacrebleu_bleu
from sacrebleu.metrics import chrf as sacrebleu_chrf
from sacrebleu.metrics import ter as sacrebleu_ter
from sacrebleu.metrics.base import Metric as SacrebleuScorer

from sharpseq.declarations import Declaration
from sharpseq.evaluation.measurement import FloatArray, check_corpus
from sharpseq.evaluation.metric import MetricSpec

# sacreBLEU has no public way to its per-sentence counts. Its own paired bootstrap stands on these two, so they are the
# steadiest of its internals; a test compares every score with the public `corpus_score`.
_INTERNALS = ("_extract_corpus_statistics", "_compute_score_from_stats")


class SacrebleuMetric:
    """A sacreBLEU metric taken apart into counts per sentence and a score of summed counts.

    Args:
        scorer: A metric of ``sacrebleu.metrics``, configured as wanted. It is not shared: its reference count is set.

    Raises:
        ImportError: If the installed sacreBLEU no longer has the internals this class reads.
    """

    def __init__(self, scorer: SacrebleuScorer) -> None:
        missing = [name for name in _INTERNALS if not callable(getattr(scorer, name, None))]
        if missing:
            raise ImportError(
                f"sacrebleu {sacrebleu.__version__} has no {' and no '.join(missing)}, which the bootstrap reads; "
                "install a version known to work: pip install 'sacrebleu>=2.5,<2.7'"
            )
        self._scorer = scorer

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Return sacreBLEU's counts of every sentence, shape (N, k).

        Raises:
            TypeError: If a string stands where a sequence of strings is meant.
            ValueError: If the corpus is empty, the lengths differ, or a sentence has no reference.
        """
        check_corpus(hypotheses, references)
        # sacreBLEU wants one stream per reference; None marks a sentence that has fewer references than others.
        streams = [list(stream) for stream in zip_longest(*references)]
        rows = self._scorer._extract_corpus_statistics(list(hypotheses), streams)
        return np.array(rows, dtype=np.float64)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """Return the scores of summed counts: shape (..., k) to shape (...)."""
        rows = totals.reshape(-1, totals.shape[-1]).tolist()
        scores = [self._scorer._compute_score_from_stats(row).score for row in rows]
        return np.array(scores, dtype=np.float64).reshape(totals.shape[:-1])

    def signature(self, references: Sequence[Sequence[str]]) -> str:
        """Return sacreBLEU's signature, which names the number of references."""
        counts = {len(sentence_references) for sentence_references in references}
        # -1 is sacreBLEU's mark for a number that varies.
        self._scorer.num_refs = counts.pop() if len(counts) == 1 else -1
        return str(self._scorer.get_signature())


def bleu(**options: Any) -> SacrebleuMetric:
    """Make the BLEU of sacreBLEU: 13a tokenisation and exponential smoothing unless configured otherwise.

    Args:
        **options: Passed to ``sacrebleu.metrics.BLEU``, such as ``tokenize="zh"`` or ``lowercase=True``.

    Example:
        >>> metric = bleu()
        >>> totals = metric.statistics(["the cat sat down"], [["the cat sat down"]]).sum(axis=0)
        >>> round(float(metric.aggregate(totals)), 6)
        100.0

    References:
        Papineni et al. 2002, "BLEU"; Post 2018, "A call for clarity in reporting BLEU scores".
    """
    return SacrebleuMetric(sacrebleu_bleu.BLEU(**options))


def chrf(**options: Any) -> SacrebleuMetric:
    """Make the chrF2 of sacreBLEU: character 6-grams, recall counted twice.

    Args:
        **options: Passed to ``sacrebleu.metrics.CHRF``, such as ``word_order=2`` for chrF++.

    References:
        Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".
    """
    return SacrebleuMetric(sacrebleu_chrf.CHRF(**options))


def ter(**options: Any) -> SacrebleuMetric:
    """Make the translation edit rate of sacreBLEU: word edits and block shifts per reference word, in percent.

    With several references the edits are those to the nearest one and the length is their mean length, as in tercom.

    Args:
        **options: Passed to ``sacrebleu.metrics.TER``, such as ``normalized=True``.

    References:
        Snover et al. 2006, "A study of translation edit rate with targeted human annotation".
    """
    return SacrebleuMetric(sacrebleu_ter.TER(**options))


BLEU = MetricSpec(
    Declaration("bleu", "n-gram precision with a brevity penalty (sacreBLEU)", "Papineni et al. 2002"),
    bleu,
    higher_is_better=True,
    unit="points",
)


CHRF = MetricSpec(
    Declaration("chrf", "character n-gram F-score (sacreBLEU)", "Popović 2015"),
    chrf,
    higher_is_better=True,
    unit="points",
)


TER = MetricSpec(
    Declaration("ter", "word edits and block shifts per reference word (sacreBLEU)", "Snover et al. 2006"),
    ter,
    higher_is_better=False,
    unit="percent",
    slow_from=150,
)
