"""Outputs that are missing because their source is too long, and those whose end may be missing: counted and said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sharpseq.decoding import ReachedLimit
from sharpseq.number_text import line_list


class ReachedLimits:
    """Counts the outputs that reached a length limit.

    Example:
        >>> reached = ReachedLimits()
        >>> reached.add([None, ReachedLimit(60, "raise `max_new_tokens`"), None])
        >>> print(reached)
        1 of 3 outputs reached the limit of 60 tokens; raise `max_new_tokens`
    """

    def __init__(self) -> None:
        self.num_outputs = 0
        self._by_remedy: dict[str, list[int]] = {}

    def add(self, limits: Iterable[ReachedLimit | None]) -> None:
        """Count in more outputs.

        Args:
            limits: The limit of each output that reached it, None for the others.
        """
        for limit in limits:
            self.num_outputs += 1
            if limit is not None:
                self._by_remedy.setdefault(limit.remedy, []).append(limit.num_tokens)

    @property
    def num_reached(self) -> int:
        """How many outputs reached their limit."""
        return sum(map(len, self._by_remedy.values()))

    def __bool__(self) -> bool:
        """Return whether an output reached its limit."""
        return bool(self._by_remedy)

    def __str__(self) -> str:
        """Return the report as one line."""
        return "; ".join(
            f"{len(limits):,} of {self.num_outputs:,} output{'' if self.num_outputs == 1 else 's'} reached "
            f"{_named(limits)}; {remedy}"
            for remedy, limits in self._by_remedy.items()
        )


def incomplete_outputs(outputs: Sequence[Any]) -> list[str]:
    """Return a line about sources that were too long, and one about outputs that reached their limit, if there are any.

    Args:
        outputs: `Generation` objects, one for each line of a corpus.

    Example:
        >>> from sharpseq.generation import Generation
        >>> incomplete_outputs([Generation("a"), Generation("", error="99 tokens, the model reads at most 64")])
        ['1 of 2 sources is too long for the model, its output counts as empty: line 2']
    """
    too_long = [number for number, output in enumerate(outputs, start=1) if output.error]
    reached = ReachedLimits()
    reached.add(output.reached_limit for output in outputs)
    lines = [str(reached)] if reached else []
    if too_long:
        is_one = len(too_long) == 1
        lines.insert(
            0,
            f"{len(too_long):,} of {len(outputs):,} sources {'is' if is_one else 'are'} too long for the model, "
            f"{'its output counts' if is_one else 'their outputs count'} as empty: "
            f"line{'' if is_one else 's'} {line_list(too_long)}",
        )
    return lines


def _named(limits: list[int]) -> str:
    least, most = min(limits), max(limits)
    return f"the limit of {most:,} tokens" if least == most else f"their limits of {least:,} to {most:,} tokens"
