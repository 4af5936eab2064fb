"""Which languages are served, by which model, under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sharpseq.serving.batching import Batcher
from sharpseq.serving.language_names import language_name
from sharpseq.serving.translators import Pair, Quality


@dataclass(frozen=True)
class ServedLanguages:
    """The models of a server by what they translate, in the order in which they were given.

    Args:
        batchers: The model of each pair of languages and quality; each pair has both qualities.
    """

    batchers: Mapping[tuple[Pair, Quality], Batcher]

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of languages."""
        return list(dict.fromkeys(pair for pair, _ in self.batchers))

    @property
    def sources(self) -> list[str]:
        """Codes of the languages that texts may be in."""
        return list(dict.fromkeys(pair.source for pair in self.pairs))

    def targets_of(self, source: str) -> list[str]:
        """Return the codes of the languages that a source language is translated into."""
        return [pair.target for pair in self.pairs if pair.source == source]

    def described(self) -> list[dict[str, object]]:
        """Return what ``/languages`` says."""
        return [
            {"code": source, "name": language_name(source), "targets": self.targets_of(source)}
            for source in self.sources
        ]
