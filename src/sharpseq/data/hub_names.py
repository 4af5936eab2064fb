"""Tell Hub ids from local paths."""

from __future__ import annotations

from pathlib import Path


def is_missing_path(name_or_path: str) -> bool:
    """Return whether a name can only be a local path, and nothing exists there.

    A Hub id is ``name`` or ``owner/name``. Asking the Hub for anything else gives a message about repositories, or a
    minute of retries without a network.

    Args:
        name_or_path: Hub id or local path.

    Returns:
        True if there is nothing to load under that name, locally or on the Hub.

    Example:
        >>> is_missing_path("./no/such/folder"), is_missing_path("facebook/nllb-200-distilled-600M")
        (True, False)
    """
    names_a_path = name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1
    return names_a_path and not Path(name_or_path).exists()
