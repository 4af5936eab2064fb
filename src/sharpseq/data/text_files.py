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
"""Bytes that a line may have: far more than a model reads, and far less than fills the memory."""


class _LineReader(Protocol):
    """What is read of a binary stream: files, gzip files and standard input have it."""

    def readline(self, size: int, /) -> bytes: ...


def read_lines(path: StrPath) -> list[str]:
    r"""Read all lines of a UTF-8 text file.

    Only ``\n`` ends a line, and a ``\r`` right before it belongs to the line end. Other characters that Unicode calls
    line separators (U+2028, U+0085, form feed) stay inside their line, so that line numbers agree with ``wc -l`` and
    parallel files stay parallel. Empty lines are kept. A byte order mark at the start is removed.

    Args:
        path: Text file; a name that ends with ``.gz`` is decompressed.

    Returns:
        The lines without their ends.

    Raises:
        UserError: If the file is missing, unreadable, a directory, damaged gzip, or not UTF-8 (with the line).

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
        source: Text file (a name that ends with ``.gz`` is decompressed) or an open binary stream such as
            ``sys.stdin.buffer``, read from where it stands and not closed.
        longest: Bytes that a line may have, so that a file without line ends does not fill the memory; None for any
            number.

    Returns:
        An iterator over the lines without their ends, as :func:`read_lines` gives them.

    Raises:
        UserError: If a line is longer, and as for :func:`read_lines`, when the iterator reaches the fault.

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
            # gzip reads a file of no bytes as an empty text, but no gzip writer leaves one: a copy was cut off.
            if not raw.peek(1):
                raise EOFError
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield from _decoded_lines(unzipped, name=str(path), longest=longest)
    except EOFError:
        raise UserError(f"{path}: the gzip file is cut off before its end; copy or make it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: not a sound gzip file ({error}); make it again or drop the `.gz`") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; give a text file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path and its rights") from None


def _decoded_lines(stream: _LineReader, *, name: str, longest: int | None) -> Iterator[str]:
    # One byte more than allowed shows that a line is too long without reading the rest of it.
    next_line = partial(stream.readline, -1 if longest is None else longest + 1)
    for number, line in enumerate(iter(next_line, b""), start=1):
        if longest is not None and len(line) > longest:
            raise UserError(
                f"{name}:{number}: the line has more than {longest:,} bytes; break it up, or check that this is a text "
                "file with one example in a line"
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
