"""The one exception that stands for a user's mistake."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a file, a recipe or a command line, told in one line.

    The command line prints the message without a traceback and exits with status 2.
    The message says what is wrong, where (file and line), and how to mend it.
    """
