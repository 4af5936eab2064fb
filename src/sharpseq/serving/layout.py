"""The sentences of a text and everything between them, so that a translation keeps the layout of its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A text in pieces: ``gaps[0] + sentences[0] + gaps[1] + … + gaps[-1]``.

    Args:
        sentences: What is translated, each without spaces around it and without line breaks.
        gaps: What stays as it is: spaces, line breaks, markup; one more than there are sentences.

    Raises:
        ValueError: If the numbers do not fit.

    Example:
        >>> Layout(("one.", "two."), ("", " ", "")).filled(["eins.", "zwei."])
        'eins. zwei.'
    """

    sentences: tuple[str, ...]
    gaps: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.gaps) != len(self.sentences) + 1:
            raise ValueError(
                f"`gaps` must be one more than the {len(self.sentences)} sentences; there are {len(self.gaps)}"
            )

    def filled(self, translations: Sequence[str]) -> str:
        """Return the text with each sentence replaced by its translation.

        Raises:
            ValueError: If there is not one translation for each sentence.
        """
        if len(translations) != len(self.sentences):
            raise ValueError(f"`translations` must be {len(self.sentences)}; there are {len(translations)}")
        pieces = [self.gaps[0]]
        for translation, gap in zip(translations, self.gaps[1:], strict=True):
            pieces += [translation, gap]
        return "".join(pieces)


class LayoutBuilder:
    """Gathers sentences and gaps in order; neighbouring gaps become one."""

    def __init__(self) -> None:
        self._sentences: list[str] = []
        self._gaps: list[str] = [""]

    def sentence(self, text: str) -> None:
        """Append a sentence."""
        self._sentences.append(text)
        self._gaps.append("")

    def gap(self, text: str) -> None:
        """Append something that stays as it is."""
        self._gaps[-1] += text

    def layout(self) -> Layout:
        """Return what was gathered."""
        return Layout(tuple(self._sentences), tuple(self._gaps))
