"""Tell names on the Hugging Face hub from paths."""

from __future__ import annotations

from pathlib import Path


def is_missing_path(name_or_path: str) -> bool:
    """Tell whether this can only be a path, and nothing is there.

    A name on the hub is ``name`` or ``owner/name``. Asking the hub for anything else gives a message about
    repositories, or a minute of retries without a network.

    Args:
        name_or_path: Name on the hub or local path.

    Returns:
        Whether there is nothing to load under that name, here or on the hub.

    Example:
        >>> is_missing_path("./no/such/folder"), is_missing_path("facebook/nllb-200-distilled-600M")
        (True, False)
    """
    names_a_path = name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1
    return names_a_path and not Path(name_or_path).exists()
