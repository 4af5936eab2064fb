"""Lines of text, plain or gzipped, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from sharpseq.errors import UserError

StrPath: TypeAlias = str | os.PathLike[str]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# That of UTF-32 begins with that of UTF-16.
_OTHER_BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

_ENOUGH_TO_TELL = 8
"""Bytes of a first line from which UTF-16 is recognised without a byte order mark."""

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


def iter_lines(source: StrPath | BinaryIO, *, longest: int = LONGEST_LINE) -> Iterator[str]:
    r"""Read the lines of a UTF-8 text file or binary stream one by one.

    Args:
        source: Text file (decompressed if its name ends with ``.gz``), or an open binary stream such as
            ``sys.stdin.buffer``, which is read from its current position and not closed.
        longest: Most bytes of a line, so that a file without line ends does not fill the memory.

    Yields:
        The lines without their line ends, as :func:`read_lines` returns them.

    Raises:
        UserError: If a line is longer, or as for :func:`read_lines`, when the iterator reaches the fault.

    Example:
        >>> import io
        >>> list(iter_lines(io.BytesIO(b"one\ntwo")))
        ['one', 'two']
    """
    for number, text, is_whole in iter_line_parts(source, longest=longest):
        if not is_whole:
            raise UserError(
                f"{_name_of(source)}:{number}: the line has more than {longest:,} bytes; split it, or check that this "
                "is a text file with one example on each line"
            )
        yield text


def iter_line_parts(source: StrPath | BinaryIO, *, longest: int = LONGEST_LINE) -> Iterator[tuple[int, str, bool]]:
    r"""Read a UTF-8 text file or binary stream line by line, and very long lines in parts.

    Args:
        source: As for :func:`iter_lines`.
        longest: Most bytes of a part.

    Yields:
        The number of the line, from 1; the part, without a line end; and whether the line ends there.

    Raises:
        UserError: As for :func:`read_lines`, when the iterator reaches the fault.

    Example:
        >>> import io
        >>> list(iter_line_parts(io.BytesIO(b"one\nfourteen\n"), longest=4))
        [(1, 'one', True), (2, 'fourt', False), (2, 'een', True)]
    """
    if isinstance(source, (str, os.PathLike)):
        with _opened(Path(source)) as stream:
            yield from _decoded_parts(stream, name=_name_of(source), longest=longest)
    else:
        yield from _decoded_parts(source, name=_name_of(source), longest=longest)


def _name_of(source: StrPath | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


@contextmanager
def _opened(path: Path) -> Iterator[_LineReader]:
    try:
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                yield raw
                return
            # gzip reads an empty file as an empty text, but no gzip writer makes one: a copy was cut off.
            if not raw.peek(1):
                raise EOFError
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield unzipped
    except EOFError:
        raise UserError(f"{path}: the gzip file is cut off before its end; copy or make it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: not a valid gzip file ({error}); make it again or drop the `.gz`") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a text file") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None


def _decoded_parts(stream: _LineReader, *, name: str, longest: int) -> Iterator[tuple[int, str, bool]]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    number, num_read = 1, 0

    def decoded(part: bytes, *, final: bool) -> str:
        num_waiting = len(decoder.getstate()[0]) if num_read else 0
        try:
            return decoder.decode(part, final=final)
        except UnicodeDecodeError as error:
            position = num_read - num_waiting + error.start + 1
            raise UserError(
                f"{name}:{number}: not valid UTF-8 (byte 0x{error.object[error.start]:02x} at byte {position} of the "
                "line); convert the file with `iconv -f ENCODING -t UTF-8`, where ENCODING is that of the file, such "
                "as WINDOWS-1252"
            ) from None

    # One byte more than allowed shows that a line is too long, without reading the rest of it.
    for part in iter(partial(stream.readline, longest + 1), b""):
        is_whole = part.endswith(b"\n") or len(part) <= longest
        if number == 1 and num_read == 0:
            _refuse_other_encodings(part, name=name)
            part = part.removeprefix(_BYTE_ORDER_MARK)
        if part.endswith(b"\n"):
            part = part.removesuffix(b"\n").removesuffix(b"\r")
        yield number, decoded(part, final=is_whole), is_whole
        number, num_read = (number + 1, 0) if is_whole else (number, num_read + len(part))
    decoded(b"", final=True)


def _refuse_other_encodings(start: bytes, *, name: str) -> None:
    """Raise if a file begins as UTF-16 or UTF-32 does: with a byte order mark, or with every other byte NUL."""
    found = next((encoding for mark, encoding in _OTHER_BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    even, odd = set(start.rstrip(b"\n")[::2]), set(start.rstrip(b"\n")[1::2])
    if found is None and len(start) >= _ENOUGH_TO_TELL:
        found = "UTF-16LE" if odd == {0} and 0 not in even else "UTF-16BE" if even == {0} and 0 not in odd else None
    if found is not None:
        raise UserError(f"{name}:1: {found} text, not UTF-8; convert the file with `iconv -f {found} -t UTF-8`")
