"""Translated files until they are fetched: in one folder, under names that nobody can guess, for a while."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_-]{43}")
_SUFFIX = ".txt"


class StoreFull(Exception):
    """There is no room for another file."""


class FileStore:
    """Files in a folder that holds nothing else; several processes may share it.

    Args:
        folder: The folder.
        seconds: How long a file is kept.
        max_bytes: What all files together may take.
    """

    def __init__(self, folder: Path, *, seconds: float = 600.0, max_bytes: int = 268_435_456) -> None:
        self._folder = folder
        self._seconds = seconds
        self._max_bytes = max_bytes

    def put(self, content: bytes) -> str:
        """Store a file and return its name.

        Raises:
            StoreFull: If there is no room for it.
        """
        self._delete_old()
        if sum(size for _, _, size in self._files()) + len(content) > self._max_bytes:
            raise StoreFull
        name = secrets.token_urlsafe(32)
        path = self._folder / f"{name}{_SUFFIX}"
        with open(path, "xb", opener=_only_ours) as file:
            file.write(content)
        return path.name

    def get(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none, or no more."""
        if not name.endswith(_SUFFIX) or _NAME.fullmatch(name.removesuffix(_SUFFIX)) is None:
            return None
        self._delete_old()
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _delete_old(self) -> None:
        oldest = time.time() - self._seconds
        for path, written, _ in self._files():
            if written < oldest:
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[Path, float, int]]:
        found = []
        for path in self._folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process has just deleted it
                continue
            found.append((path, status.st_mtime, status.st_size))
        return found


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
