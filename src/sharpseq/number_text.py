"""Numbers that people write: in options of the command line, and in files."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import TypeVar

N = TypeVar("N", int, float)

_LARGEST = sys.float_info.max


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
