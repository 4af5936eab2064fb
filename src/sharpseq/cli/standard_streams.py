"""Standard streams that take any text, whatever the terminal or pipe at their other end."""

from __future__ import annotations

import io
import os
import sys

import typer


def prepare_streams() -> None:
    """Make every text printable: unknown characters become question marks, and closed streams discard text.

    Standard error is left as it is: Python writes such characters as escapes there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # The next file would get the number of a closed stream otherwise, and whatever libraries print there.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
    # Open until the process ends, like the streams that they stand for.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def print_json(document: str | bytes) -> None:
    """Print JSON for other programs: always as UTF-8, because replaced characters would change the data."""
    typer.echo(document.encode() if isinstance(document, str) else document, nl=False)
