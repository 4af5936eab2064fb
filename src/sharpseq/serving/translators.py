"""What the server asks of a model: several sentences in, their translations out, quickly or as well as it can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Quality: TypeAlias = Literal["fast", "best"]
"""How a request wants its text written: in one pass or greedily, or by a search or rescoring, which takes longer."""


@dataclass(frozen=True)
class Pair:
    """A source and a target language, by their codes in requests, such as ``en`` and ``de``."""

    source: str
    target: str

    def __str__(self) -> str:
        """Write it as the command line takes it."""
        return f"{self.source}:{self.target}"


@dataclass(frozen=True)
class Wish:
    """What is wanted of a sentence; only sentences with the same wish can share a batch.

    Args:
        pair: The languages.
        quality: How it is written.
        num_alternatives: How many other translations are wanted; there may be fewer.
    """

    pair: Pair
    quality: Quality = "fast"
    num_alternatives: int = 0


@dataclass(frozen=True)
class Translation:
    """A translated sentence.

    Args:
        text: The translation; empty where there is an ``error``.
        alternatives: Other translations, none equal to another or to ``text``.
        confidence: Geometric mean of the probabilities of the tokens, in (0, 1]; None where it is not known.
        error: Why there is no translation, in a few words that do not quote the sentence.
    """

    text: str
    alternatives: tuple[str, ...] = ()
    confidence: float | None = None
    error: str | None = None


class Translator(Protocol):
    """A model that translates sentences; it is called from one thread only."""

    def translate(self, sentences: Sequence[str], wish: Wish, /) -> list[Translation]:
        """Return one translation for each sentence, which has no line breaks, in order."""
        ...


class WrittenLine(Protocol):
    """What a generator says about one output; `sharpseq.Generation` is one."""

    @property
    def text(self) -> str:
        """The text, on one line."""
        ...

    @property
    def log_prob(self) -> float:
        """Its log-probability in nats."""
        ...

    @property
    def num_tokens(self) -> int:
        """Its length in tokens."""
        ...

    @property
    def error(self) -> str | None:
        """Why there is no text."""
        ...


class LineGenerator(Protocol):
    """Anything that writes one output for each line, such as `sharpseq.SequenceGenerator` or an export of it."""

    def generate(self, lines: Iterable[str], /) -> Iterable[WrittenLine]:
        """Write one output for each line, in order."""
        ...
