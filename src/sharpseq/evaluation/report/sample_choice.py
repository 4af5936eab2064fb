"""Which sentences to show: those on which systems differ, from all over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def differing_positions(outputs: Mapping[str, Sequence[str]]) -> list[int]:
    """Return the positions of the sentences on which not all systems agree.

    Args:
        outputs: The outputs of every system on the same sentences, by its name.

    Example:
        >>> differing_positions({"first": ["a", "b", "c"], "second": ["a", "x", "c"]})
        [1]
    """
    return [position for position, texts in enumerate(zip(*outputs.values(), strict=True)) if len(set(texts)) > 1]


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return that many of the items, in order, as far apart as they can be; all where there are no more.

    Nothing but the position chooses them, so they show a system at its usual, not at its best.

    Example:
        >>> evenly_spaced("abcdefghi", 3)
        ['b', 'e', 'h']
    """
    if len(items) <= count:
        return list(items)
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]
