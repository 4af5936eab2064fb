"""What a metric promises, and what measuring a corpus hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

FloatArray: TypeAlias = NDArray[np.float64]
Aggregate: TypeAlias = Callable[[FloatArray], FloatArray]

_NON_FINITE = {text: float(text) for text in ("NaN", "Infinity", "-Infinity")}


def _non_finite(value: Any) -> Any:
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


Number: TypeAlias = Annotated[float, BeforeValidator(_non_finite)]
"""A float that JSON, which has no word for them, may hold as the string NaN, Infinity or -Infinity."""


class Metric(Protocol):
    """A corpus metric that is a function of sums over sentences.

    Everything the metric needs from a sentence goes into a row of k numbers; the corpus score depends on the sum of the
    rows only. A bootstrap therefore resamples rows and never looks at the text again.
    """

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """Return the sufficient statistics of every sentence, shape (N, k)."""
        ...

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """Return the corpus score of summed statistics: shape (..., k) to shape (...)."""
        ...

    def signature(self, references: Sequence[Sequence[str]]) -> str | None:
        """Return the settings that make the score reproducible, None if there are none."""
        ...


@dataclass(frozen=True)
class MetricResult:
    """The score of one system on one corpus.

    Args:
        name: Name of the metric in :data:`sharpseq.evaluation.METRICS`.
        score: Corpus score in the unit of the metric; NaN where the metric is undefined.
        signature: Settings and versions that reproduce the score, None if the metric has no settings.
        higher_is_better: Direction of the metric; None if it has none (a length ratio is best at 1).
    """

    name: str
    score: Number
    signature: str | None
    higher_is_better: bool | None


@dataclass(frozen=True, eq=False)
class Measurement:
    """A score together with what a bootstrap needs to resample it.

    Args:
        result: The corpus score.
        statistics: Sufficient statistics of every sentence, shape (N, k).
        aggregate: Maps summed statistics, shape (..., k), to scores, shape (...).
    """

    result: MetricResult
    statistics: FloatArray
    aggregate: Aggregate


def present_references(references: Sequence[str]) -> Sequence[str]:
    """Return the references of a sentence without those that are missing.

    In files of references, a sentence that has fewer of them than others has a blank line in the last files. So a blank
    reference beside another one is a missing one. If all are blank the right output is an empty one, and one blank
    reference is left.

    Args:
        references: The references of one sentence.

    Example:
        >>> present_references(["the cat", " ", ""]), present_references(["", ""])
        (['the cat'], [''])
    """
    return [reference for reference in references if reference.strip()] or references[:1]


def check_corpus(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Check that there is at least one sentence and that every sentence has a reference.

    Args:
        hypotheses: One output per sentence, N strings; an empty string is a valid output.
        references: The references of every sentence, N sequences of at least one string.

    Raises:
        TypeError: If a string stands where a sequence of strings is meant.
        ValueError: If the corpus is empty, the lengths differ, or a sentence has no reference.

    Example:
        >>> check_corpus(["a b"], [["a b", "a c"]])
        >>> check_corpus([], [])
        Traceback (most recent call last):
        ValueError: `hypotheses` must hold at least one sentence; got none
    """
    if isinstance(hypotheses, str):
        raise TypeError("`hypotheses` must be a sequence of strings; got a string")
    if len(hypotheses) == 0:
        raise ValueError("`hypotheses` must hold at least one sentence; got none")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"`hypotheses` and `references` must have the same length; got {len(hypotheses)} and {len(references)}"
        )
    for index, sentence_references in enumerate(references):
        if isinstance(sentence_references, str):
            raise TypeError(
                f"`references[{index}]` must be a sequence of strings, one per reference; got a string "
                "(for a single reference a sentence pass [[reference] for reference in references])"
            )
        if len(sentence_references) == 0:
            raise ValueError(f"`references[{index}]` must hold at least one reference; got none")
