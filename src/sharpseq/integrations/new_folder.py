"""Folders that an export makes: new, and there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sharpseq.errors import UserError


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a path to fill that takes its name ``output`` only when the block ends well.

    Args:
        output: The folder to make; it must not exist, or be empty.

    Yields:
        Where to write; there is nothing yet.

    Raises:
        UserError: If the folder is not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is not empty; choose another folder or delete it")
    partial = output.with_name(output.name + ".partial")
    try:
        yield partial
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
