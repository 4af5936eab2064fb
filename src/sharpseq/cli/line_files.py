"""Text files whose lines belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sharpseq.errors import UserError


def read_aligned(paths: Sequence[Path]) -> list[list[str]]:
    """Read files that must have the same number of lines, normalised to NFC as the corpora are.

    Raises:
        UserError: If one is missing or broken, or the counts differ.
    """
    from sharpseq.data import normalize_text, read_lines

    files = [[normalize_text(line) for line in read_lines(path)] for path in paths]
    for path, lines in zip(paths, files, strict=True):
        if len(lines) != len(files[0]):
            raise UserError(
                f"{paths[0]} has {len(files[0])} lines and {path} has {len(lines)}; line i of one must belong to "
                "line i of the other"
            )
    return files
