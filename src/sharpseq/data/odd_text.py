"""Text that is legal but odd: lines with nothing to see on them, and line breaks inside a line."""

from __future__ import annotations

import unicodedata

_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Unicode categories of control and format characters, spaces and separators."""


def is_blank(text: str) -> bool:
    r"""Return whether a text has no visible character: only spaces, control or format characters, or nothing at all.

    Example:
        >>> is_blank(" \u00a0"), is_blank("\u200b\ufeff"), is_blank("\0"), is_blank("a\u200b")
        (True, True, True, False)
    """
    return not text.strip() or all(unicodedata.category(character) in _INVISIBLE for character in text)


def one_line(text: str) -> str:
    r"""Return a text as one line, whatever a program takes for a line break: all of them become spaces.

    Example:
        >>> one_line("a\r\nb\u2028c\x0bd")
        'a b c d'
    """
    return " ".join(text.splitlines())
