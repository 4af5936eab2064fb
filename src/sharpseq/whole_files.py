"""Files and folders that are there whole or not at all, even after a power cut.

Each is written under a hidden name beside its place, ``.NAME.PID.unfinished``, forced to the disk, and then renamed.
"""

from __future__ import annotations

import errno
import glob
import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from sharpseq.errors import UserError

# Windows can only force files to the disk that are open for writing, and no folders at all.
_IS_WINDOWS = os.name == "nt"
# Some network file systems cannot force folders to the disk either.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP}
_NOT_WRITTEN = {".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z"}


def write_whole_file(path: Path, content: str | bytes) -> None:
    """Write a file in one step; what was there stays until the new file is whole.

    Args:
        path: See `whole_file`.
        content: Its content; text is written as UTF-8.

    Raises:
        UserError: If the name asks for a compression that is not written.
        OSError: If the file cannot be written; nothing unfinished stays.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to fill that takes its name ``path`` only when the block ends well.

    Args:
        path: The file, in a folder that exists. A name that ends with ``.gz`` is compressed. A symbolic link stays, and
            the file that it points to is written.

    Yields:
        The file, open for writing.

    Raises:
        UserError: If the name asks for a compression that is not written.
        OSError: If the file cannot be written; nothing unfinished stays.
    """
    check_ending(path)
    is_compressed = path.suffix == ".gz"
    if path.exists() and not path.is_file():
        # A device or a pipe, such as /dev/stdout; a rename would replace it.
        with path.open("wb") as file, _compressing(file, is_compressed) as content:
            yield content
        return
    path = path.resolve()
    unfinished = _unfinished(path)
    _delete_abandoned(path)
    try:
        with unfinished.open("wb") as file, _compressing(file, is_compressed) as content:
            yield content
        move_into_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_ending(path: Path) -> None:
    """Check that a file would be what its name says.

    Raises:
        UserError: If the name asks for a compression that is not written.

    Example:
        >>> check_ending(Path("new.de.gz"))
        >>> check_ending(Path("new.de.xz"))
        Traceback (most recent call last):
        sharpseq.errors.UserError: new.de.xz: files are written plain or, with the ending .gz, compressed by gzip
    """
    if path.suffix in _NOT_WRITTEN:
        raise UserError(f"{path}: files are written plain or, with the ending .gz, compressed by gzip")


@contextmanager
def _compressing(file: IO[bytes], is_compressed: bool) -> Iterator[IO[bytes]]:
    if not is_compressed:
        yield file
        return
    # Without a name and a time, so that the same content always gives the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        yield cast(IO[bytes], compressed)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill that takes its name ``path`` only when the block ends well.

    One process at a time may make a folder: what an earlier one left unfinished is deleted.

    Args:
        path: The folder to make; it must not exist, or be empty. Missing parents are made as well.

    Yields:
        Where to write.

    Raises:
        UserError: If there is something in the folder, a file in its place, it cannot be made there, or its name is not
            UTF-8.
        OSError: If it cannot be finished; nothing unfinished stays.
    """
    check_name(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is not empty; choose another folder or delete it")
    unfinished = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
            shutil.rmtree(abandoned, ignore_errors=True)
        unfinished.mkdir()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; choose another place") from error
    try:
        yield unfinished
        if path.exists():
            path.rmdir()
        move_into_place(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_name(folder: Path) -> None:
    r"""Check that the name of a folder for models is UTF-8, without which libraries neither save nor load them.

    Raises:
        UserError: If it is not.

    Example:
        >>> check_name(Path("runs/größer"))
        >>> check_name(Path("runs/gr\udcf6sser"))
        Traceback (most recent call last):
        sharpseq.errors.UserError: runs/gr\udcf6sser: the name is not UTF-8, as those of models must be; choose another
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        shown = str(folder).encode(errors="backslashreplace").decode()
        raise UserError(f"{shown}: the name is not UTF-8, as those of models must be; choose another") from error


def move_into_place(unfinished: Path, path: Path) -> None:
    """Rename a finished file or folder so that a power cut leaves either what was there before or all of the new one.

    Args:
        unfinished: The file or folder, on the same disk as ``path``.
        path: Its name from now on; a file of that name is replaced.

    Raises:
        OSError: If the disk does not take it.
    """
    force_to_disk(unfinished)
    unfinished.replace(path)
    _force_names_to_disk(path.parent)


def force_to_disk(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, is on the disk.

    Raises:
        OSError: If the disk does not take it.
    """
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                force_to_disk(inner)
        _force_names_to_disk(path)
        return
    descriptor = os.open(path, os.O_RDWR if _IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _force_names_to_disk(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk, which is not part of writing the files."""
    if _IS_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _delete_abandoned(path: Path) -> None:
    """Delete what processes of this machine that are no more left unfinished of a file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
        process = left.name.removesuffix(".unfinished").rpartition(".")[2]
        if process.isdigit() and not _is_running(int(process)):
            left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if _IS_WINDOWS:
        return True  # there is no harmless way to ask
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def is_unfinished(path: Path) -> bool:
    """Return whether a file or folder is one that a killed process did not finish.

    Example:
        >>> is_unfinished(Path("run/.recipe.yaml.71.unfinished")), is_unfinished(Path("run/recipe.yaml"))
        (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(".unfinished")


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.unfinished")
