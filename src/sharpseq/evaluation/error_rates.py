"""Word and phoneme error rate of pronunciations, with several references a word."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from sharpseq.declarations import Declaration
from sharpseq.evaluation.exact_match import matches_reference
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.ratio import RatioMetric


def nearest_reference(hypothesis: str, references: Sequence[str]) -> tuple[int, int]:
    """Return the edit distance to the nearest reference and that reference's length, in whitespace-separated symbols.

    Of references equally near the longest counts: the error rate is then the lowest one, and it does not depend on the
    order in which a dictionary lists its pronunciations.

    Args:
        hypothesis: The output.
        references: At least one reference.

    Returns:
        Number of edits (insertions, deletions and substitutions) and number of reference symbols.

    Example:
        >>> nearest_reference("T AH M EY T OW", ["T AH M AA T OW", "T AH M EY T OW Z"])
        (1, 7)

    References:
        Levenshtein 1966.
    """
    symbols = hypothesis.split()
    split = [reference.split() for reference in references]
    candidates = [(Levenshtein.distance(symbols, reference), len(reference)) for reference in split]
    return min(candidates, key=lambda candidate: (candidate[0], -candidate[1]))


def word_error_rate() -> RatioMetric:
    """Make the share of words whose output equals none of their references, in percent.

    This is the word error rate of grapheme-to-phoneme conversion, where a sentence of the corpus is one word; it is not
    the edit rate over words of speech recognition.

    Example:
        >>> metric = word_error_rate()
        >>> float(metric.aggregate(metric.statistics(["K AE T", "D AO"], [["K AE T"], ["D AO G"]]).sum(axis=0)))
        50.0

    References:
        Yolchuyeva et al. 2019, "Transformer based grapheme-to-phoneme conversion".
    """
    return RatioMetric(lambda hypothesis, references: (float(not matches_reference(hypothesis, references)), 1.0))


def phoneme_error_rate() -> RatioMetric:
    """Make the edits to the nearest reference over that reference's symbols, both summed over the corpus, in percent.

    It can exceed 100, and is NaN where all references are empty. See :func:`nearest_reference` for ties.

    Example:
        >>> metric = phoneme_error_rate()
        >>> float(metric.aggregate(metric.statistics(["K AE T", "D AO"], [["K AE T"], ["D AO G S"]]).sum(axis=0)))
        28.57142857142857

    References:
        Yolchuyeva et al. 2019, "Transformer based grapheme-to-phoneme conversion".
    """
    return RatioMetric(nearest_reference, empty=float("nan"))


WORD_ERROR_RATE = MetricSpec(
    Declaration("word_error_rate", "share of words that equal no reference pronunciation", "Yolchuyeva et al. 2019"),
    word_error_rate,
    higher_is_better=False,
    unit="percent",
)


PHONEME_ERROR_RATE = MetricSpec(
    Declaration("phoneme_error_rate", "edits to the nearest reference per reference symbol", "Yolchuyeva et al. 2019"),
    phoneme_error_rate,
    higher_is_better=False,
    unit="percent",
)
