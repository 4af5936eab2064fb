"""Lines of text: only a line feed ends one, and every fault names its place."""

from __future__ import annotations

import gzip
import io
import os
import random
from pathlib import Path

import pytest

from sharpseq.data import iter_lines, read_lines
from sharpseq.data.text_files import LONGEST_LINE, iter_line_parts
from sharpseq.errors import UserError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\n\nthree\n", ["one", "", "three"]),
        (b"one\nno end", ["one", "no end"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"lone\rreturn\n", ["lone\rreturn"]),
        (b"twice\r\r\n", ["twice\r"]),
        ("a\u2028b\u0085c\x0cd\x1ce\n".encode(), ["a\u2028b\u0085c\x0cd\x1ce"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("  spaces kept \u00a0\n".encode(), ["  spaces kept \u00a0"]),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines(tmp_path: Path, content: bytes, lines: list[str], suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert read_lines(path) == lines
    assert read_lines(str(path)) == lines
    assert list(iter_lines(io.BytesIO(content))) == lines


def test_invalid_utf8_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine\nalso fine\nStra\xdfe\n")
    with pytest.raises(UserError, match=r"latin\.txt:3: not valid UTF-8 \(byte 0xdf at byte 5") as caught:
        read_lines(path)
    assert "\n" not in str(caught.value)


def test_invalid_utf8_comes_after_the_lines_before_it() -> None:
    lines = iter_lines(io.BytesIO(b"fine\n\xff\n"))
    assert next(lines) == "fine"
    with pytest.raises(UserError, match=r"<stream>:2: not valid UTF-8"):
        next(lines)


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        """Fails the test where more is read than a line may have."""

        left = LONGEST_LINE + 2**16

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            size = len(buffer)
            self.left -= size
            assert self.left > 0, "the whole line was read"
            buffer[:] = b"a" * size
            return size

    with pytest.raises(UserError, match=r"<stream>:1: the line has more than 4,194,304 bytes; split it"):
        next(iter_lines(io.BufferedReader(Endless())))
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(b"fine\n" + b"a" * 11))
    assert list(iter_lines(path, longest=11)) == ["fine", "a" * 11]
    lines = iter_lines(path, longest=10)
    assert next(lines) == "fine"
    with pytest.raises(UserError, match=r"long\.gz:2: the line has more than 10 bytes"):
        next(lines)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_utf_16_is_named_and_the_advice_converts_it(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = tmp_path / f"wide.txt{suffix}"
    # Without its byte order mark, UTF-32 is not told from UTF-16; UTF-16 is, by every other byte.
    mark = b"\xff\xfe\0\0" if encoding == "utf-32-le" else b""
    content = mark + "ein Hund\nzwei Hunde\n".encode(encoding)
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(
        UserError, match=r"wide\.txt(\.gz)?:1: UTF-(16|32)(LE|BE)? text, not UTF-8; .*`iconv -f \S+ -t UTF-8`"
    ) as caught:
        read_lines(path)
    named = str(caught.value).split("-f ")[1].split()[0]
    assert content.decode(named).lstrip("\ufeff").startswith("ein Hund\n")


@pytest.mark.parametrize("content", [b"\0", b"\0\0\0\n", b"a\0b\n", b"\0a\0\n", b"a\n\0\n"])
def test_nul_characters_are_text(content: bytes) -> None:
    assert "\n".join(iter_lines(io.BytesIO(content))) == content.decode().removesuffix("\n")


def test_advice_for_other_encodings_names_where_to_convert_from() -> None:
    with pytest.raises(UserError, match=r"`iconv -f ENCODING -t UTF-8`, where ENCODING .* such as WINDOWS-1252"):
        list(iter_lines(io.BytesIO("Straße\n".encode("cp1252"))))


@pytest.mark.parametrize("longest", [1, 2, 3, 4, 5, 100])
def test_long_lines_come_in_parts_with_whole_characters(longest: int) -> None:
    content = "äöü\n\n😀é\r\nende".encode()
    lines: dict[int, str] = {}
    for number, text, is_whole in iter_line_parts(
        io.BytesIO(b"\xef\xbb\xbf" * (longest > 3) + content), longest=longest
    ):
        lines[number] = lines.get(number, "") + text
        assert len(text.encode()) <= longest + 4
        assert is_whole or longest < 8
    assert [line.rstrip("\r") for line in lines.values()] == ["äöü", "", "😀é", "ende"]
    with pytest.raises(UserError, match=r"<stream>:2: not valid UTF-8 \(byte 0xff at byte 7 of the line\)"):
        list(iter_line_parts(io.BytesIO("a\näöü".encode() + b"\xff\n"), longest=longest))
    with pytest.raises(UserError, match=r"<stream>:1: not valid UTF-8 \(byte 0xc3 at byte 3 of the line\)"):
        list(iter_line_parts(io.BytesIO(b"aa\xc3"), longest=longest))


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_one_clear_line(seed: int) -> None:
    content = random.Random(seed).randbytes(2**16)
    with pytest.raises(UserError, match=r"<stream>:\d+: .*iconv") as caught:
        list(iter_lines(io.BytesIO(content)))
    assert "\n" not in str(caught.value)


def test_stream_is_read_from_where_it_stands_and_stays_open() -> None:
    stream = io.BytesIO(b"read\nrest\n")
    stream.readline()
    assert list(iter_lines(stream)) == ["rest"]
    assert not stream.closed


@pytest.mark.parametrize("kept", [0, 5, 30, -4])
def test_truncated_gzip(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(bytes(range(32, 127)) * 50)[:kept])
    with pytest.raises(UserError, match=r"cut\.gz: the gzip file is cut off"):
        read_lines(path)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(os.urandom(2000).hex().encode()))
    whole[200] ^= 0xFF
    path = tmp_path / "bad.gz"
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"bad\.gz"):
        read_lines(path)


def test_gzip_in_name_only(tmp_path: Path) -> None:
    path = tmp_path / "plain.gz"
    path.write_text("plain text\n")
    with pytest.raises(UserError, match=r"plain\.gz: not a valid gzip file"):
        read_lines(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.txt: no such file"):
        read_lines(tmp_path / "absent.txt")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read_lines(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rights do not stop the superuser, under whom tests may run: the refusal is put in place of the real one.
    path = tmp_path / "secret.txt"
    path.write_text("secret")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"secret\.txt: cannot be read \(Permission denied\)"):
        read_lines(path)
