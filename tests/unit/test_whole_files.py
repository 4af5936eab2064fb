"""Files and folders are there whole or not at all, and on the disk before they have their names."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpseq import UserError
from sharpseq.whole_files import force_to_disk, is_unfinished, whole_folder, write_whole_file


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order: names that are forced there, and renames."""
    names: dict[int, str] = {}
    seen: list[str] = []
    real_open, real_fsync, real_replace = os.open, os.fsync, Path.replace

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = real_open(path, *arguments, **options)
        names[descriptor] = Path(path).name
        return descriptor

    def synced(descriptor: int) -> None:
        seen.append(f"sync {names[descriptor].replace(str(os.getpid()), 'PID')}")
        real_fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        seen.append(f"rename to {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return seen


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, events: list[str]) -> None:
    write_whole_file(tmp_path / "scores.json", "ä\n")
    assert (tmp_path / "scores.json").read_bytes() == b"\xc3\xa4\n"
    assert events == ["sync .scores.json.PID.unfinished", "rename to scores.json", f"sync {tmp_path.name}"]


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, events: list[str]) -> None:
    with whole_folder(tmp_path / "model") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(b"1")
        assert is_unfinished(folder)
    assert (tmp_path / "model" / "inner" / "weights").read_bytes() == b"1"
    assert events == [
        "sync weights",
        "sync inner",
        "sync .model.PID.unfinished",
        "rename to model",
        f"sync {tmp_path.name}",
    ]


def fail_with(code: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "replace")])
def test_a_full_disk_keeps_what_was_there_and_leaves_nothing(
    place: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(*place, fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        write_whole_file(tmp_path / "file", "new")
    with pytest.raises(OSError, match="No space left"), whole_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model") as folder:
        (folder / "weights").write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    abandoned = tmp_path / ".model.1.unfinished"
    abandoned.mkdir()
    (abandoned / "weights").write_bytes(b"half")
    (tmp_path / ".model-2.1.unfinished").mkdir()
    with whole_folder(tmp_path / "model"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".model-2.1.unfinished", "model"]


def test_a_folder_is_made_where_there_is_nothing_to_lose(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing/parent/new"):
        with whole_folder(tmp_path / name) as folder:
            (folder / "file").write_text("new")
        assert (tmp_path / name / "file").read_text() == "new"
    for name in ("empty", "empty/file"):
        with (
            pytest.raises(UserError, match="is not empty; choose another folder or delete it"),
            whole_folder(tmp_path / name),
        ):
            pass
    assert (tmp_path / "empty" / "file").read_text() == "new"
    with (
        pytest.raises(UserError, match=r"cannot be written: .*; choose another place"),
        whole_folder(tmp_path / "empty" / "file" / "new"),
    ):
        pass


def test_the_ending_decides_whether_a_file_is_compressed(tmp_path: Path) -> None:
    for name in ("text", "text.gz", "again.gz"):
        write_whole_file(tmp_path / name, "ä\n" * 100)
    assert gzip.decompress((tmp_path / "text.gz").read_bytes()) == (tmp_path / "text").read_bytes()
    assert (tmp_path / "again.gz").read_bytes() == (tmp_path / "text.gz").read_bytes()
    for name in ("text.bz2", "text.xz", "text.zst", "text.zip"):
        with pytest.raises(UserError, match="files are written plain or"):
            write_whole_file(tmp_path / name, "text")
    assert sorted(os.listdir(tmp_path)) == ["again.gz", "text", "text.gz"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write_whole_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole_file(tmp_path / "pipe", "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize(("code", "is_told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_force_folders_is_no_error(
    code: int, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(code))
    if is_told:
        with pytest.raises(OSError, match="error"):
            force_to_disk(tmp_path)
    else:
        force_to_disk(tmp_path)


def test_what_a_killed_process_left_unfinished_goes_with_the_next_file(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".scores.json.{ended.pid}.unfinished"
    running = tmp_path / f".scores.json.{os.getppid()}.unfinished"
    for file in (left, running):
        file.write_text("half")
    write_whole_file(tmp_path / "scores.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([running.name, "scores.json"])
