"""Word and phoneme error rate of pronunciations, with several references a word."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.evaluation.exact_match import matches_reference
from sharpseq.evaluation.ratio import RatioMetric


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the least number of insertions, deletions and substitutions that turn one sequence into the other.

    Args:
        first: Symbols, length m.
        second: Symbols, length n.

    Returns:
        Levenshtein distance, between 0 and max(m, n). Takes O(m n) time and O(n) memory.

    Example:
        >>> edit_distance("K IH T AH N".split(), "S IH T IH NG".split())
        3

    References:
        Levenshtein 1966; Wagner and Fischer 1974.
    """
    if first == second:
        return 0
    above = list(range(len(second) + 1))
    for row, symbol in enumerate(first, start=1):
        left = row
        current = [left]
        for column, other in enumerate(second):
            # A comparison chain is three times as fast as min() here, and this line is all the time the rate takes.
            best = above[column] if symbol == other else above[column] + 1
            if above[column + 1] < best:
                best = above[column + 1] + 1
            if left < best:
                best = left + 1
            current.append(best)
            left = best
        above = current
    return above[-1]


def nearest_reference(hypothesis: str, references: Sequence[str]) -> tuple[int, int]:
    """Return the edit distance to the nearest reference and that reference's length, in whitespace-separated symbols.

    Of references equally near the longest counts: the error rate is then the lowest one, and it does not depend on the
    order in which a dictionary lists its pronunciations.

    Args:
        hypothesis: The output.
        references: At least one reference.

    Returns:
        Number of edits and number of reference symbols.

    Example:
        >>> nearest_reference("T AH M EY T OW", ["T AH M AA T OW", "T AH M EY T OW Z"])
        (1, 7)
    """
    symbols = hypothesis.split()
    candidates = ((edit_distance(symbols, reference.split()), -len(reference.split())) for reference in references)
    distance, negative_length = min(candidates)
    return distance, -negative_length


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
