"""Lines of text, plain or gzipped, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from sharpseq.errors import UserError

StrPath: TypeAlias = str | os.PathLike[str]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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


def iter_lines(source: StrPath | BinaryIO) -> Iterator[str]:
    r"""Read the lines of a UTF-8 text file or binary stream one by one.

    Args:
        source: Text file (a name that ends with ``.gz`` is decompressed) or an open binary stream such as
            ``sys.stdin.buffer``, read from where it stands and not closed.

    Returns:
        An iterator over the lines without their ends, as :func:`read_lines` gives them.

    Raises:
        UserError: As for :func:`read_lines`, when the iterator reaches the fault.

    Example:
        >>> import io
        >>> list(iter_lines(io.BytesIO(b"one\ntwo")))
        ['one', 'two']
    """
    if isinstance(source, (str, os.PathLike)):
        return _file_lines(Path(source))
    name = getattr(source, "name", None)
    return _decoded_lines(source, name=name if isinstance(name, str) else "<stream>")


def _file_lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                yield from _decoded_lines(raw, name=str(path))
                return
            # gzip reads a file of no bytes as an empty text, but no gzip writer leaves one: a copy was cut off.
            if not raw.peek(1):
                raise EOFError
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield from _decoded_lines(unzipped, name=str(path))
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


def _decoded_lines(stream: Iterable[bytes], *, name: str) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
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
