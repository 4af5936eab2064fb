"""A translator made of generators: one for speed, one for quality, more for alternatives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharpseq.serving.translators import LineGenerator, Pair, Translation, Wish, WrittenLine


@dataclass(frozen=True)
class Ways:
    """Ways in which a model writes, usually with the same weights.

    Args:
        fast: What interactive requests get.
        best: What requests for quality get.
        others: Where alternatives come from, after those two.
    """

    fast: LineGenerator
    best: LineGenerator
    others: tuple[LineGenerator, ...] = ()


class GeneratorTranslator:
    """Translates with generators.

    Args:
        ways: What writes which languages.
    """

    def __init__(self, ways: Mapping[Pair, Ways]) -> None:
        self._ways = dict(ways)

    def translate(self, sentences: Sequence[str], wish: Wish, /) -> list[Translation]:
        """Translate sentences; see `Translator`."""
        ways = self._ways[wish.pair]
        chosen = ways.best if wish.quality == "best" else ways.fast
        written = list(chosen.generate(sentences))
        others = [way for way in dict.fromkeys((ways.fast, ways.best, *ways.others)) if way is not chosen]
        alternatives = _alternatives(sentences, written, others=others, wanted=wish.num_alternatives)
        return [
            Translation(output.text, tuple(found), _confidence(output), output.error)
            for output, found in zip(written, alternatives, strict=True)
        ]


def _alternatives(
    sentences: Sequence[str], written: Sequence[WrittenLine], *, others: Sequence[LineGenerator], wanted: int
) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in sentences]
    for way in others:
        lacking = [
            position
            for position, output in enumerate(written)
            if output.error is None and len(found[position]) < wanted
        ]
        if not lacking:
            break
        for position, other in zip(lacking, way.generate([sentences[n] for n in lacking]), strict=True):
            if other.error is None and other.text not in ("", written[position].text, *found[position]):
                found[position].append(other.text)
    return found


def _confidence(output: WrittenLine) -> float | None:
    return math.exp(output.log_prob / output.num_tokens) if output.num_tokens > 0 else None
