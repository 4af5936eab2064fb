"""Metrics that are a ratio of two sums over the corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sharpseq.evaluation.measurement import FloatArray, check_corpus


@dataclass(frozen=True)
class RatioMetric:
    r"""A corpus score :math:`c \cdot \sum_i a_i / \sum_i b_i` over the sentences i.

    Args:
        count: Maps a hypothesis and its references to :math:`(a_i, b_i)`.
        scale: The factor c: 100 for a percentage, 1 for a plain ratio.
        empty: Score where :math:`\sum_i b_i = 0`.
        settings: The signature, None if there is nothing to say.

    Example:
        >>> tokens_per_sentence = RatioMetric(lambda hypothesis, references: (len(hypothesis.split()), 1), scale=1.0)
        >>> statistics = tokens_per_sentence.statistics(["a b", ""], [["a"], ["a"]])
        >>> float(tokens_per_sentence.aggregate(statistics.sum(axis=0)))
        1.0
    """

    count: Callable[[str, Sequence[str]], tuple[float, float]]
    scale: float = 100.0
    empty: float = 0.0
    settings: str | None = None

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Return :math:`(a_i, b_i)` of every sentence, shape (N, 2).

        Raises:
            TypeError: If a string stands where a sequence of strings is meant.
            ValueError: If the corpus is empty, the lengths differ, or a sentence has no reference.
        """
        check_corpus(hypotheses, references)
        pairs = [self.count(hypothesis, refs) for hypothesis, refs in zip(hypotheses, references, strict=True)]
        return np.array(pairs, dtype=np.float64)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """Return the scaled ratio of summed counts: shape (..., 2) to shape (...)."""
        numerator, denominator = totals[..., 0], totals[..., 1]
        ratio = np.full(numerator.shape, self.empty / self.scale)
        np.divide(numerator, denominator, out=ratio, where=denominator > 0)
        return self.scale * ratio

    def signature(self, references: Sequence[Sequence[str]]) -> str | None:
        """Return the settings given at construction; they do not depend on the references."""
        return self.settings
