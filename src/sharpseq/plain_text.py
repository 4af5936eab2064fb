"""Plain text: one spelling of each character, lines with nothing to see on them, line breaks inside a line."""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

UnicodeNormalization = Literal["nfc", "none"]
"""``"nfc"`` composes characters, ``"none"`` leaves text as it is."""

_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Unicode categories of control and format characters, spaces and separators."""


def normalize_text(text: str, form: UnicodeNormalization = "nfc") -> str:
    r"""Return a text in one spelling.

    Args:
        text: The text.
        form: ``"nfc"`` or ``"none"``.

    Raises:
        ValueError: If ``form`` is unknown.

    Example:
        >>> len("u\u0308"), len(normalize_text("u\u0308"))
        (2, 1)
    """
    check_form(form)
    return text if form == "none" else unicodedata.normalize("NFC", text)


def check_form(form: str) -> None:
    """Check the name of a normalisation.

    Raises:
        ValueError: If it is unknown.
    """
    if form not in get_args(UnicodeNormalization):
        raise ValueError(
            f"`unicode_normalization` must be one of {', '.join(get_args(UnicodeNormalization))}; got {form!r}"
        )


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
