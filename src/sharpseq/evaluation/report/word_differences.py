"""Which words of an output its reference does not have at that place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class MarkedWord:
    """A word of an output.

    Args:
        text: The word.
        differs: Whether it is no part of the alignment with the reference.
        repeats: Whether it equals the word before it.
    """

    text: str
    differs: bool
    repeats: bool


def mark_differences(output: str, references: Sequence[str]) -> list[MarkedWord]:
    """Align an output with the reference most like it and mark the words outside of the alignment.

    Args:
        output: The output; words are separated by whitespace.
        references: Any number of references; with none, nothing differs.

    Example:
        >>> [word.text for word in mark_differences("a black black dog", ["a brown dog"]) if word.differs]
        ['black', 'black']
    """
    words = output.split()
    matchers = [SequenceMatcher(a=reference.split(), b=words, autojunk=False) for reference in references]
    blocks = max(matchers, key=SequenceMatcher.ratio).get_matching_blocks() if matchers else []
    aligned = {position for block in blocks for position in range(block.b, block.b + block.size)}
    return [
        MarkedWord(
            word,
            differs=bool(matchers) and position not in aligned,
            repeats=position > 0 and word == words[position - 1],
        )
        for position, word in enumerate(words)
    ]
