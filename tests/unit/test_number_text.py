"""Numbers are read as people write them, and nothing else is."""

from __future__ import annotations

import pytest

from sharpseq.number_text import read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3.0), (" 0.5\t", 0.5), ("1e-3", 1e-3), ("+2.", 2.0), ("-.5", -0.5), ("1e308", 1e308)],
)
def test_a_float(text: str, number: float) -> None:
    assert read_number(text, float) == number


@pytest.mark.parametrize("text", ["", " ", "x", "1_000", "٣", "½", "nan", "inf", "-inf", "1e400", "1,5", "0x10"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a number$"):
        read_number(text, float)
    with pytest.raises(ValueError, match=r"^a whole number$"):
        read_number(text, int)


def test_whole_numbers_are_not_rounded() -> None:
    assert read_number("12", int) == 12
    assert read_number(str(2**70 + 1), int) == 2**70 + 1
    for text in ("1.0", "1e3", "9" * 400, "9" * 5000):
        with pytest.raises(ValueError, match=r"^a whole number$"):
            read_number(text, int)


def test_limits() -> None:
    assert read_number("0", float, least=0) == 0
    assert read_number("1", float, above=0, most=1) == 1
    for text in ("0", "1.5"):
        with pytest.raises(ValueError, match=r"^a number above 0 and of at most 1$"):
            read_number(text, float, above=0, most=1)
    with pytest.raises(ValueError, match=r"^a whole number of at least 2$"):
        read_number("1", int, least=2)
