"""Where sentences end, by punctuation: models of sentences get sentences, and line breaks stay where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sharpseq.serving.layout import Layout, LayoutBuilder

# A sentence ends after these, after quotation marks and brackets that close right there; in scripts that are written
# without spaces, no space has to follow. A run of marks is tried once, from its start: the time stays linear.
_MARKS = r".!?\u2026\u0964\u06d4\u061f"
_WIDE_MARKS = r"\u3002\uff01\uff1f"
_CLOSING = r"""["'\u201d\u2019\u00bb)\]\u300d\u300f\uff09]*"""
_END = re.compile(rf"(?<![{_MARKS}])[{_MARKS}]+{_CLOSING}(?=\s)|[{_WIDE_MARKS}]+{_CLOSING}")
_SPACES = re.compile(r"\s*")
# What stands before a full stop that ends no sentence. A single letter is an initial ("J. S. Bach", "z. B.").
_LISTED = """
abs bzw ca co dr ed eg etc evtl fig ggf hr inc jr ltd mr mrs ms nr no prof sr st str usw vgl vol vs
"""
_ABBREVIATIONS = frozenset(_LISTED.split())
_LONGEST_ABBREVIATION = 12
_LAST_WORD = re.compile(r"(\w+)\.$")


def split_text(text: str) -> Layout:
    r"""Split a plain text into sentences.

    Every line stands alone. Inside a line, a sentence ends at ``.``, ``!``, ``?`` and their like if a space follows,
    but not after common abbreviations and initials, before a small letter, or after a short number such as in the
    German "3. Mai".

    Args:
        text: Any text; blank lines and spaces around lines become gaps.

    Returns:
        The sentences and what is between them.

    Example:
        >>> split_text("Dr. Li left. Why?\n\n  So be it.\n").sentences
        ('Dr. Li left.', 'Why?', 'So be it.')
    """
    builder = LayoutBuilder()
    add_sentences(builder, text)
    return builder.layout()


def add_sentences(builder: LayoutBuilder, text: str) -> None:
    """Append the sentences of a plain text, and the spaces between them, to a layout."""
    for line in text.splitlines(keepends=True):
        core = line.strip()
        start = line.find(core) if core else len(line)
        builder.gap(line[:start])
        if not core:
            continue
        begin = 0
        for end in _sentence_ends(core):
            builder.sentence(core[begin:end])
            begin = _after_spaces(core, end)
            builder.gap(core[end:begin])
        if begin < len(core):
            builder.sentence(core[begin:])
        builder.gap(line[start + len(core) :])


def _sentence_ends(line: str) -> Iterator[int]:
    """Yield where the sentences of a line end, the last one excepted if nothing marks its end."""
    begin = 0
    for match in _END.finditer(line):
        end = match.end()
        following = _after_spaces(line, end)
        tail = line[max(begin, end - _LONGEST_ABBREVIATION) : end]
        if not line[following : following + 1].islower() and not _is_abbreviation(tail, match.group()):
            yield end
            begin = end


def _is_abbreviation(tail: str, mark: str) -> bool:
    if mark != ".":
        return False
    word = _LAST_WORD.search(tail)
    if word is None:
        return False
    text = word[1]
    return (len(text) == 1 and text.isalpha()) or (len(text) < 3 and text.isdecimal()) or text.lower() in _ABBREVIATIONS


def _after_spaces(line: str, position: int) -> int:
    spaces = _SPACES.match(line, position)
    return position if spaces is None else spaces.end()
