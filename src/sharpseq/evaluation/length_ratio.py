"""Length of the outputs against the length of the references."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.declarations import Declaration
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.ratio import RatioMetric


def output_and_reference_length(hypothesis: str, references: Sequence[str]) -> tuple[int, int]:
    """Count the tokens of the output and of the reference nearest to it in length, the shorter one if two are.

    Args:
        hypothesis: The output; tokens are separated by whitespace.
        references: At least one reference.

    Returns:
        Number of output tokens and number of reference tokens.

    Example:
        >>> output_and_reference_length("a b c", ["a b", "a b c d", "a"])
        (3, 2)
    """
    length = len(hypothesis.split())
    reference_lengths = (len(reference.split()) for reference in references)
    return length, min(
        reference_lengths, key=lambda reference_length: (abs(reference_length - length), reference_length)
    )


def length_ratio() -> RatioMetric:
    """Make the ratio of output tokens to reference tokens over the corpus; NaN where all references are empty.

    The reference of a sentence is the one nearest in length, as in the brevity penalty of BLEU; tokens are separated by
    whitespace, so the ratio differs a little from the one of BLEU's own tokenisation.

    Example:
        >>> metric = length_ratio()
        >>> float(metric.aggregate(metric.statistics(["a b c", ""], [["a b c d"], ["a b"]]).sum(axis=0)))
        0.5

    References:
        Papineni et al. 2002, "BLEU", section 2.2.2.
    """
    return RatioMetric(output_and_reference_length, scale=1.0, empty=float("nan"))


LENGTH_RATIO = MetricSpec(
    Declaration("length_ratio", "output tokens per reference token; best at 1", "Papineni et al. 2002"),
    length_ratio,
    higher_is_better=None,
    unit="ratio",
)
