"""Which phrases of a translation stand elsewhere in its revision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["same", "moved", "changed"]
# A word with its inner hyphens and apostrophes, or one other sign.
_WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class CommonPhrase:
    """A run of words that both texts have.

    Args:
        before: Its first word's place in the text before.
        after: Its first word's place in the text after.
        num_words: Its length in words.
    """

    before: int
    after: int
    num_words: int


@dataclass(frozen=True)
class Segment:
    """A piece of a text, as it is shown; the segments of a text joined together are the text.

    Args:
        text: The piece, with the white space in it.
        kind: "same": the other text has it, in the same order; "moved": the other text has it elsewhere; "changed":
            the other text does not have it.
        phrase: Number of a moved phrase, from 1, the same in both texts; 0 for other kinds.
    """

    text: str
    kind: Kind
    phrase: int


def common_phrases(before: Sequence[str], after: Sequence[str]) -> list[CommonPhrase]:
    """Cover two texts with the longest phrases that they share.

    Again and again the longest run of words that is still free in both texts is taken; of equally long ones the first
    in ``before``, then the first in ``after``. Each word belongs to one phrase at most.

    Args:
        before: Words of the text before.
        after: Words of the text after.

    Returns:
        The phrases in the order of ``before``.

    Note:
        Quadratic in the number of words for each phrase.

    Example:
        >>> common_phrases("a b c d".split(), "c d a b".split())
        [CommonPhrase(before=0, after=2, num_words=2), CommonPhrase(before=2, after=0, num_words=2)]

    References:
        Wise 1993, "String similarity via greedy string tiling".
    """
    free_before, free_after = [True] * len(before), [True] * len(after)
    phrases: list[CommonPhrase] = []
    while True:
        longest = CommonPhrase(0, 0, 0)
        # runs[j] is the length of the common run that ends with the words i and j.
        runs = [0] * (len(after) + 1)
        for i, word in enumerate(before):
            above, runs = runs, [0] * (len(after) + 1)
            for j, other in enumerate(after):
                if free_before[i] and free_after[j] and word == other:
                    length = runs[j + 1] = above[j] + 1
                    if length > longest.num_words:
                        longest = CommonPhrase(i - length + 1, j - length + 1, length)
        if not longest.num_words:
            return sorted(phrases, key=lambda phrase: phrase.before)
        phrases.append(longest)
        for offset in range(longest.num_words):
            free_before[longest.before + offset] = free_after[longest.after + offset] = False


def moved_phrases(phrases: Sequence[CommonPhrase]) -> list[CommonPhrase]:
    """Return the phrases that must move to bring all of them from one order into the other, with the fewest words.

    What stays is the heaviest chain of phrases whose order is the same in both texts, each weighing as many words as
    it has; of two equal chains, the one that ends earlier in the text before.

    Args:
        phrases: Common phrases in the order of the text before.

    Example:
        >>> moved_phrases(common_phrases("he sings in the rain".split(), "in the rain he sings".split()))
        [CommonPhrase(before=0, after=3, num_words=2)]
    """
    weights: list[int] = []
    previous: list[int | None] = []
    for index, phrase in enumerate(phrases):
        earlier = [other for other in range(index) if phrases[other].after < phrase.after]
        best = max(earlier, key=lambda other: (weights[other], -other), default=None)
        previous.append(best)
        weights.append(phrase.num_words + (0 if best is None else weights[best]))
    staying = set()
    place = max(range(len(phrases)), key=lambda index: (weights[index], -index), default=None)
    while place is not None:
        staying.add(place)
        place = previous[place]
    return [phrase for index, phrase in enumerate(phrases) if index not in staying]


def mark_moved_phrases(before: str, after: str, *, min_words: int = 2) -> tuple[list[Segment], list[Segment]]:
    """Mark in two versions of a text what moved and what changed.

    Words are compared without regard to case, because a phrase that comes to the beginning gets a capital letter;
    punctuation marks are words of their own.

    Args:
        before: The text before.
        after: The text after.
        min_words: Least number of words, punctuation not counted, that make a phrase; what is shorter and stands
            elsewhere counts as changed.

    Returns:
        The segments of the text before, and those of the text after.

    Raises:
        ValueError: If ``min_words`` is less than 1.

    Example:
        >>> first, second = mark_moved_phrases("There are few doctors in that land.", "In that land there are few.")
        >>> [segment.text for segment in first if segment.kind == "moved"]
        ['in that land']
        >>> [segment.text for segment in first if segment.kind == "changed"]
        ['doctors']

    References:
        Lee, Shu and Cho 2020, table 2, where such phrases are coloured by hand.
    """
    if min_words < 1:
        raise ValueError(f"`min_words` must be at least 1; got {min_words}")
    spans = [[match.span() for match in _WORD.finditer(text)] for text in (before, after)]
    words = [
        [text[start:end].casefold() for start, end in places]
        for text, places in zip((before, after), spans, strict=True)
    ]
    phrases = common_phrases(*words)
    moved = moved_phrases(phrases)
    kinds: list[list[tuple[Kind, int]]] = [[("changed", 0)] * len(places) for places in spans]
    number = 0
    for phrase in phrases:
        kind: Kind = "same"
        if phrase in moved:
            in_words = words[0][phrase.before : phrase.before + phrase.num_words]
            if sum(word[0].isalnum() for word in in_words) < min_words:
                continue
            kind, number = "moved", number + 1
        for side, start in enumerate((phrase.before, phrase.after)):
            marks = [(kind, number if kind == "moved" else 0)] * phrase.num_words
            kinds[side][start : start + phrase.num_words] = marks
    return _segments(before, spans[0], kinds[0]), _segments(after, spans[1], kinds[1])


def _segments(text: str, spans: Sequence[tuple[int, int]], kinds: Sequence[tuple[Kind, int]]) -> list[Segment]:
    """Join neighbouring words of one kind; white space between two kinds belongs to neither and stays unmarked."""
    pieces: list[tuple[str, tuple[Kind, int]]] = []
    end = 0
    plain: tuple[Kind, int] = ("same", 0)
    for (start, stop), kind in zip(spans, kinds, strict=True):
        gap = text[end:start]
        if pieces and pieces[-1][1] == kind:
            pieces[-1] = (pieces[-1][0] + gap + text[start:stop], kind)
        else:
            pieces += [(gap, plain), (text[start:stop], kind)]
        end = stop
    pieces.append((text[end:], plain))
    segments: list[Segment] = []
    for piece, (kind_of, number) in pieces:
        if segments and (segments[-1].kind, segments[-1].phrase) == (kind_of, number):
            segments[-1] = Segment(segments[-1].text + piece, kind_of, number)
        elif piece:
            segments.append(Segment(piece, kind_of, number))
    return segments
