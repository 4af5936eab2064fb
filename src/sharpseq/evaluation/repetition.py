"""Share of output tokens that repeat the token before them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sharpseq.declarations import Declaration
from sharpseq.evaluation.metric import MetricSpec
from sharpseq.evaluation.ratio import RatioMetric


def repeated_tokens(hypothesis: str, references: Sequence[str] = ()) -> tuple[int, int]:
    """Count the tokens that equal their predecessor, and all tokens.

    Args:
        hypothesis: The output; tokens are separated by whitespace.
        references: Not looked at.

    Returns:
        Number of repeated tokens and number of tokens.

    Example:
        >>> repeated_tokens("a a a dog")
        (2, 4)
    """
    tokens = hypothesis.split()
    return sum(token == previous for previous, token in pairwise(tokens)), len(tokens)


def repetition_rate() -> RatioMetric:
    """Make the share of output tokens that equal their predecessor, in percent; 0 where nothing was written.

    A one-pass model that mixes several translations stutters: this is the plainest sign of it. Compare with the rate of
    the references, which is not zero either.

    Example:
        >>> metric = repetition_rate()
        >>> float(metric.aggregate(metric.statistics(["a a a dog"], [["a dog"]]).sum(axis=0)))
        50.0

    References:
        Ghazvininejad et al. 2019, "Mask-Predict: parallel decoding of conditional masked language models", section 5.
    """
    return RatioMetric(repeated_tokens)


REPETITION_RATE = MetricSpec(
    Declaration("repetition_rate", "share of output tokens that equal their predecessor", "Ghazvininejad et al. 2019"),
    repetition_rate,
    higher_is_better=False,
    unit="percent",
)
