"""Models as the command line names them: ``en:de=FOLDER``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sharpseq.errors import UserError
from sharpseq.serving.translators import Pair, Quality

_CODE = r"[A-Za-z][A-Za-z0-9_-]{0,39}"
_CHOICE = re.compile(rf"(?P<pairs>{_CODE}:{_CODE}(?:,{_CODE}:{_CODE})*)(?:/(?P<quality>\w+))?=(?P<folder>.+)")


@dataclass(frozen=True)
class ModelChoice:
    """A model and what it serves.

    Args:
        pairs: The pairs of languages that it translates.
        folder: A run folder, a model folder, a Hub id, or an export.
        quality: The quality that it serves; None for both.
    """

    pairs: tuple[Pair, ...]
    folder: str
    quality: Quality | None = None

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The qualities that it serves."""
        return ("fast", "best") if self.quality is None else (self.quality,)


def parse_model_choices(texts: Sequence[str]) -> tuple[ModelChoice, ...]:
    """Return models as they are written on the command line.

    Args:
        texts: ``en:de=FOLDER``; ``en:de,en:fr=FOLDER`` for a multilingual model; with ``/fast`` or ``/best`` before the
            equals sign, another model can serve the other quality.

    Raises:
        UserError: If one is not written like that, or two serve the same.

    Example:
        >>> parse_model_choices(["en:de/best=runs/teacher"])
        (ModelChoice(pairs=(Pair(source='en', target='de'),), folder='runs/teacher', quality='best'),)
    """
    choices = tuple(_parsed(text) for text in texts)
    seen: dict[tuple[Pair, Quality], str] = {}
    for choice in choices:
        for pair in choice.pairs:
            for quality in choice.qualities:
                if (pair, quality) in seen:
                    other = seen[pair, quality]
                    raise UserError(
                        f"{choice.folder}: {pair} is served by {other} already; write {pair}/fast=… and {pair}/best=… "
                        "for two models of one pair"
                    )
                seen[pair, quality] = choice.folder
    return choices


def _parsed(text: str) -> ModelChoice:
    match = _CHOICE.fullmatch(text)
    if match is None:
        raise UserError(f"{text}: say which languages the model translates, such as en:de={text.rpartition('=')[2]}")
    pairs = tuple(Pair(*pair.split(":")) for pair in match["pairs"].split(","))
    for quality in get_args(Quality):
        if match["quality"] in (None, quality):
            return ModelChoice(pairs, match["folder"], None if match["quality"] is None else quality)
    raise UserError(f"{text}: a quality is one of {', '.join(get_args(Quality))}; got {match['quality']}")
