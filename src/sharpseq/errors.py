"""The exceptions that stand for a user's mistake, and how to name what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 20
"""Names that a message lists when none is near; transformers has more than a hundred training arguments."""


class UserError(Exception):
    """A mistake in a file, a recipe or a command line, reported on one line.

    The command line prints the message without a traceback and exits with status 2.
    The message says what is wrong, where (file and line), and how to fix it.
    """


class SettingError(ValueError):
    """A value that one key of a nested mapping is to blame for.

    Args:
        message: What is wrong and how to fix it.
        path: Keys and positions that lead to the culprit, from where the check began.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path

    def under(self, *path: str | int) -> SettingError:
        """Return the same mistake, seen from further up."""
        return SettingError(str(self), *path, *self.path)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return what to say about an unknown name: the nearest valid one, or all of them unless they are too many.

    Example:
        >>> nearest("lable_smoothing", ["k", "label_smoothing"])
        'did you mean `label_smoothing`?'
        >>> nearest("x", ["k", "label_smoothing"])
        'valid: k, label_smoothing'
    """
    spellings = {valid.lower(): valid for valid in names}
    close = difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{spellings[close[0]]}`?"
    listed = sorted(spellings.values())
    return f"valid: {', '.join(listed[:_MOST_LISTED])}{', …' if len(listed) > _MOST_LISTED else ''}"
