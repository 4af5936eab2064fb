"""Numbers that people write, in options of the command line and in files; and lists of numbers that they read."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

N = TypeVar("N", int, float)

_LARGEST = sys.float_info.max
_MOST_LINES = 10


def read_number(
    text: str, kind: type[N], *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> N:
    """Read one number.

    Args:
        text: The number, with any white space around it. Python itself would also read ``1_000``, digits of other
            scripts, ``nan`` and ``inf``; these are mistakes here.
        kind: ``int`` or ``float``.
        least: The smallest number that is allowed.
        above: The number must be greater than this.
        most: The greatest number that is allowed.

    Raises:
        ValueError: If it is none; the message says which numbers are allowed.

    Example:
        >>> read_number(" 0.5", float, above=0, most=1)
        0.5
        >>> read_number("0.5", int, least=1)
        Traceback (most recent call last):
        ValueError: a whole number of at least 1
    """
    if text.isascii() and "_" not in text:
        with suppress(ValueError):
            number = kind(text)
            # Infinity is none of the numbers between the limits, whatever they are.
            if max(least, -_LARGEST) <= number <= min(most, _LARGEST) and number > above:
                return number
    named = {"of at least": least, "above": above, "of at most": most}
    limits = " and ".join(f"{words} {limit:g}" for words, limit in named.items() if math.isfinite(limit))
    raise ValueError(f"a {'whole number' if kind is int else 'number'} {limits}".strip())


def line_list(numbers: Sequence[int]) -> str:
    """Return the first line numbers of a list, as messages show them.

    Example:
        >>> line_list([3, 8]), line_list(range(1, 12))
        ('3, 8', '1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …')
    """
    return ", ".join(map(str, numbers[:_MOST_LINES])) + (", …" if len(numbers) > _MOST_LINES else "")
