"""Tell Hub ids from local paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

_HUB_ID = re.compile(r"(?!runs/)(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""``name`` or ``owner/name``; nobody who writes ``runs/g2p`` means a model of an owner called `runs`."""


def is_missing_path(name_or_path: str) -> bool:
    """Return whether a name can only be a local path, and nothing exists there.

    Asking the Hub for anything but one of its ids gives a message about repositories, or half a minute of retries
    without a network.

    Args:
        name_or_path: Hub id or local path.

    Returns:
        True if there is nothing to load under that name, locally or on the Hub.

    Example:
        >>> is_missing_path("./no/such/folder"), is_missing_path("facebook/nllb-200-distilled-600M")
        (True, False)
        >>> is_missing_path("runs/nothing"), is_missing_path("my model"), is_missing_path("gpt2")
        (True, True, False)
    """
    return not _HUB_ID.fullmatch(name_or_path) and not Path(name_or_path).exists()


def expanded_path(path: str | os.PathLike[str]) -> str:
    """Return a path with a leading ``~`` and variables such as ``$HOME`` expanded as a shell does; Hub ids have none.

    Example:
        >>> expanded_path("facebook/nllb-200-distilled-600M"), expanded_path("~/runs") == str(Path.home() / "runs")
        ('facebook/nllb-200-distilled-600M', True)
    """
    return os.path.expanduser(os.path.expandvars(os.fspath(path)))
