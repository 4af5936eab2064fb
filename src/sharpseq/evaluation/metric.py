"""What a metric declares of itself, in its own file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sharpseq.declarations import Declaration
from sharpseq.evaluation.measurement import Metric


@dataclass(frozen=True)
class MetricSpec:
    """A row of the table of metrics.

    Args:
        declaration: Name, one line, reference.
        factory: Makes the metric with its default settings. For other settings replace it:
            ``dataclasses.replace(METRICS["bleu"], factory=partial(bleu, tokenize="zh"))``.
        higher_is_better: Direction; None if the metric has none.
        unit: ``points`` (0 to 100), ``percent`` or ``ratio``.
        slow_from: Words in a line from which on it takes about a second, and much longer for longer lines; None where
            the time grows no faster than the text.
    """

    declaration: Declaration
    factory: Callable[[], Metric]
    higher_is_better: bool | None
    unit: Literal["points", "percent", "ratio"]
    slow_from: int | None = None

    @property
    def name(self) -> str:
        """Name in recipes, commands and results."""
        return self.declaration.name

    @property
    def slow_notice(self) -> str:
        """A line for people who wait."""
        return f"{self.name}: lines of {self.slow_from} words or more take long, up to minutes each"
