"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole_file(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there; what was there stays until the new one is whole.

    Args:
        path: The file.
        content: Its content; text is written as UTF-8.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
