"""How a command ends when it cannot continue: one line for what a user can fix, a traceback for a bug."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from sharpseq.errors import UserError

_MISTAKE = 2
_INTERRUPTED = 130  # what a shell reports for a process that SIGINT ended
_BROKEN_PIPE = 1  # as typer and rich, which meet some closed pipes before this module does

# torch and safetensors write files themselves and raise their own errors for a full disk, without an errno.
_FULL_DISK_PHRASES = ("No space left on device", "PytorchStreamWriter failed writing", "unexpected pos")


class OneLineFailures(TyperGroup):
    """A group of commands that reports a user's mistake in one line and lets a bug keep its traceback.

    A user's mistake and a full disk end with status 2, an interrupt with 130, a closed pipe silently with 1, all of
    them without a traceback.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line, which already prints: ``--help`` and ``--version`` end here."""
        with _failures_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with _failures_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()  # here rather than at exit, where a full disk or a closed pipe could not be reported
    except UserError as error:
        _report(str(error))
        raise typer.Exit(_MISTAKE) from error
    except KeyboardInterrupt as error:
        _report("interrupted")
        raise typer.Exit(_INTERRUPTED) from error
    except BrokenPipeError as error:
        _discard_unwritable_output()
        raise typer.Exit(_BROKEN_PIPE) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None:
            _discard_unwritable_output()
            _report("standard output is closed to writing; redirect it to a file, a pipe or a terminal")
            raise typer.Exit(_MISTAKE) from error
        if not _is_full_disk(error):
            raise
        _discard_unwritable_output()
        where = f" for {error.filename}" if isinstance(error, OSError) and error.filename else ""
        _report(f"no space left on the disk{where}; free some and run the same command again")
        raise typer.Exit(_MISTAKE) from error


def _report(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    line = " ".join(message.split("\n"))
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {line}", style="red"))


def _discard_unwritable_output() -> None:
    """Drop what standard output still buffers if it cannot be written: the interpreter would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    return any(phrase in str(error) for phrase in _FULL_DISK_PHRASES)
