"""Leave out training examples by length, and report which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sharpseq.data.encoding import EncodedExample

_LINES_SHOWN = 3


@dataclass(frozen=True)
class FilterReport:
    """What a filter dropped, and why.

    Args:
        num_examples: Examples seen.
        counts: Number of examples dropped, by reason; each example counts under the first reason that applies.
        line_numbers: Line numbers (from 1) of the first few examples dropped, by reason.

    Example:
        >>> print(FilterReport(3000, {"target over 64 tokens": 1200}, {"target over 64 tokens": (3, 17, 20)}))
        kept 1,800 of 3,000 examples; dropped 1,200: 1,200 target over 64 tokens (lines 3, 17, 20, …)
    """

    num_examples: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    line_numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def num_dropped(self) -> int:
        """Number of examples dropped."""
        return sum(self.counts.values())

    @property
    def num_kept(self) -> int:
        """Number of examples kept."""
        return self.num_examples - self.num_dropped

    def __add__(self, other: FilterReport) -> FilterReport:
        """Join the reports on two consecutive parts of a corpus."""
        reasons = list(dict.fromkeys([*self.counts, *other.counts]))
        return FilterReport(
            self.num_examples + other.num_examples,
            {reason: self.counts.get(reason, 0) + other.counts.get(reason, 0) for reason in reasons},
            {
                reason: (self.line_numbers.get(reason, ()) + other.line_numbers.get(reason, ()))[:_LINES_SHOWN]
                for reason in reasons
            },
        )

    def __str__(self) -> str:
        """Return the whole report as one line."""
        kept = f"kept {self.num_kept:,} of {self.num_examples:,} examples"
        if not self.num_dropped:
            return kept
        parts = []
        for reason, count in self.counts.items():
            lines = self.line_numbers.get(reason, ())
            more = ", …" if count > len(lines) else ""
            listed = ", ".join(map(str, lines))
            parts.append(f"{count:,} {reason} ({'line' if count == 1 else 'lines'} {listed}{more})")
        return f"{kept}; dropped {self.num_dropped:,}: {'; '.join(parts)}"


@dataclass(frozen=True)
class LengthFilter:
    """Keep the examples whose lengths are within bounds. For training data only: evaluation leaves nothing out.

    Lengths are in tokens as encoded. EOS counts where there is one, so that a limit can be the number of positions of
    a model or the token budget of a batch.

    Args:
        max_source_length: Longest source; no limit when not given.
        max_target_length: Longest target; no limit when not given.
        max_length_ratio: Largest ratio of the longer side to the shorter side, where an empty side counts as one token;
            at least 1. No limit when not given.
        max_row_length: Largest number of tokens of source and target together, as a causal language model reads them;
            no limit when not given.
        min_source_length: Shortest source.
        min_target_length: Shortest target; 1 drops empty targets, from which one-pass models learn nothing.

    Example:
        >>> examples = [EncodedExample(0, [5, 0], [5]), EncodedExample(1, [5, 6, 7, 0], [5])]
        >>> kept, report = LengthFilter(max_length_ratio=3).apply(examples)
        >>> print(report)
        kept 1 of 2 examples; dropped 1: 1 length ratio over 3 (line 2)
    """

    max_source_length: int | None = None
    max_target_length: int | None = None
    max_length_ratio: float | None = None
    max_row_length: int | None = None
    min_source_length: int = 0
    min_target_length: int = 0

    def __post_init__(self) -> None:
        """Check the bounds."""
        for side in ("source", "target"):
            least, most = getattr(self, f"min_{side}_length"), getattr(self, f"max_{side}_length")
            if least < 0:
                raise ValueError(f"`min_{side}_length` must be at least 0; got {least}")
            if most is not None and most < max(1, least):
                raise ValueError(f"`max_{side}_length` must be at least {max(1, least)}; got {most}")
        if self.max_row_length is not None and self.max_row_length < 1:
            raise ValueError(f"`max_row_length` must be at least 1; got {self.max_row_length}")
        # Written this way round, the condition rejects NaN too.
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1:
            raise ValueError(f"`max_length_ratio` must be at least 1; got {self.max_length_ratio}")

    def apply(self, examples: Iterable[EncodedExample]) -> tuple[list[EncodedExample], FilterReport]:
        """Drop the examples that are out of bounds.

        Args:
            examples: Encoded training examples.

        Returns:
            The examples that are kept, in order, and a report on those that are dropped.
        """
        kept: list[EncodedExample] = []
        dropped: dict[str, list[int]] = {}
        for example in examples:
            reason = self._reason(len(example.input_ids), len(example.labels))
            if reason is None:
                kept.append(example)
            else:
                dropped.setdefault(reason, []).append(example.index + 1)
        counts = {reason: len(lines) for reason, lines in dropped.items()}
        first = {reason: tuple(lines[:_LINES_SHOWN]) for reason, lines in dropped.items()}
        return kept, FilterReport(len(kept) + sum(counts.values()), counts, first)

    def _reason(self, source: int, target: int) -> str | None:
        if self.max_source_length is not None and source > self.max_source_length:
            return f"source over {_tokens(self.max_source_length)}"
        if self.max_target_length is not None and target > self.max_target_length:
            return f"target over {_tokens(self.max_target_length)}"
        if self.max_row_length is not None and source + target > self.max_row_length:
            return f"source and target over {_tokens(self.max_row_length)}"
        if source < self.min_source_length:
            return f"source under {_tokens(self.min_source_length)}"
        if target < self.min_target_length:
            return f"target under {_tokens(self.min_target_length)}"
        shorter, longer = sorted((max(1, source), max(1, target)))
        if self.max_length_ratio is not None and longer > self.max_length_ratio * shorter:
            return f"length ratio over {self.max_length_ratio:g}"
        return None


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"
