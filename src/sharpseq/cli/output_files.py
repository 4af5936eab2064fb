"""Files that a command writes besides its output: checked before long work, and either complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

from sharpseq.errors import UserError
from sharpseq.whole_files import check_ending, write_whole_file


def check_writable(*paths: Path | None) -> None:
    """Check that files can be written, without touching them; None means that no file is wanted.

    Raises:
        UserError: If a folder is missing or closed to the user, a path is a folder, or a name asks for a compression
            that is not written.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a file")
        check_ending(path)
        check_parent(path)


def check_parent(path: Path) -> None:
    """Check that a file or folder can be made where its path says.

    Raises:
        UserError: If its parent is missing or closed to the user.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} cannot be written: the folder {path.parent} is read-only; choose another place")


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file in one step; the old content stays until the new file is complete.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        write_whole_file(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; choose another place or free space") from error
