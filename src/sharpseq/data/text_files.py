"""Lines of text, plain or gzipped, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from sharpseq.errors import UserError

StrPath: TypeAlias = str | os.PathLike[str]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

LONGEST_LINE = 4 * 2**20
"""Most bytes of a line: far more than a model reads, and far less than fills the memory."""


class _LineReader(Protocol):
    """What is needed of a binary stream: files, gzip files and standard input have it."""

    def readline(self, size: int, /) -> bytes: ...


def read_lines(path: StrPath) -> list[str]:
    r"""Read all lines of a UTF-8 text file.

    Only ``\n`` or ``\r\n`` ends a line. Other characters that Unicode calls line separators (U+2028, U+0085, form feed)
    stay inside their line, so that line numbers agree with ``wc -l`` and parallel files stay parallel. Empty lines are
    kept. A byte order mark at the start of the file is removed.

    Args:
        path: Text file; a file whose name ends with ``.gz`` is decompressed.

    Returns:
        The lines without their line ends.

    Raises:
        UserError: If the file is missing, unreadable, a folder, damaged gzip, or not UTF-8 (with the line).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "text.en"
        >>> _ = path.write_bytes(b"one\r\n\ntwo\xe2\x80\xa8lines")
        >>> read_lines(path)
        ['one', '', 'two\u2028lines']
    """
    return list(iter_lines(path))


def iter_lines(source: StrPath | BinaryIO, *, longest: int | None = LONGEST_LINE) -> Iterator[str]:
    r"""Read the lines of a UTF-8 text file or binary stream one by one.

    Args:
        source: Text file (decompressed if its name ends with ``.gz``), or an open binary stream such as
            ``sys.stdin.buffer``, which is read from its current position and not closed.
        longest: Most bytes of a line, so that a file without line ends does not fill the memory; None for no limit.

    Returns:
        An iterator over the lines without their line ends, as :func:`read_lines` returns them.

    Raises:
        UserError: If a line is longer, or as for :func:`read_lines`, when the iterator reaches the fault.

    Example:
        >>> import io
        >>> list(iter_lines(io.BytesIO(b"one\ntwo")))
        ['one', 'two']
    """
    if isinstance(source, (str, os.PathLike)):
        return _file_lines(Path(source), longest=longest)
    name = getattr(source, "name", None)
    return _decoded_lines(source, name=name if isinstance(name, str) else "<stream>", longest=longest)


def _file_lines(path: Path, *, longest: int | None) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                yield from _decoded_lines(raw, name=str(path), longest=longest)
                return
            # gzip reads an empty file as an empty text, but no gzip writer makes one: a copy was cut off.
            if not raw.peek(1):
                raise EOFError
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield from _decoded_lines(unzipped, name=str(path), longest=longest)
    except EOFError:
        raise UserError(f"{path}: the gzip file is cut off before its end; copy or make it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: not a valid gzip file ({error}); make it again or drop the `.gz`") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a text file") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None


def _decoded_lines(stream: _LineReader, *, name: str, longest: int | None) -> Iterator[str]:
    # One byte more than allowed shows that a line is too long, without reading the rest of it.
    next_line = partial(stream.readline, -1 if longest is None else longest + 1)
    for number, line in enumerate(iter(next_line, b""), start=1):
        if longest is not None and len(line) > longest:
            raise UserError(
                f"{name}:{number}: the line has more than {longest:,} bytes; split it, or check that this is a text "
                "file with one example on each line"
            )
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.endswith(b"\r\n"):
            line = line[:-2]
        elif line.endswith(b"\n"):
            line = line[:-1]
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}:{number}: not valid UTF-8 (byte 0x{line[error.start]:02x} at byte {error.start + 1} of the "
                "line); convert the file, for example with `iconv -t UTF-8`"
            ) from None
        yield text
