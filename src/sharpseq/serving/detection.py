"""Which language a text is in, for ``/detect`` and for requests whose source is ``auto``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from sharpseq.errors import UserError

# It reads every character in Python: what a language is shows in the first thousand.
_MOST_CHARACTERS = 1000


@dataclass(frozen=True)
class DetectedLanguage:
    """A language that a text may be in.

    Args:
        code: Its code.
        confidence: From 0 to 100, as LibreTranslate counts.
    """

    code: str
    confidence: float


class Detector(Protocol):
    """Says which language a text is in."""

    def detect(self, text: str, /) -> list[DetectedLanguage]:
        """Return the languages that it may be in, the most probable one first; none for a text without letters."""
        ...


class LangidDetector:
    """A naive Bayes classifier of byte n-grams that knows a hundred languages.

    Args:
        languages: Codes of the languages that it has to know.

    Raises:
        UserError: If the classifier does not know a language.
        ImportError: If ``py3langid`` is not installed.

    References:
        Lui and Baldwin 2012, "langid.py: an off-the-shelf language identification tool".
    """

    def __init__(self, languages: Sequence[str]) -> None:
        self._identifier = _identifier()
        unknown = sorted(set(languages) - {str(label) for label in self._identifier.labels})
        if unknown:
            raise UserError(
                f"--detect does not know {', '.join(unknown)}; it takes codes of two letters (ISO 639-1) such as en"
            )

    def detect(self, text: str, /) -> list[DetectedLanguage]:
        """Return the languages that a text may be in; see `Detector`."""
        if not any(character.isalpha() for character in text):
            return []
        ranked = self._identifier.rank(text[:_MOST_CHARACTERS])
        return [DetectedLanguage(str(code), round(100 * float(share), 1)) for code, share in ranked]


@cache
def _identifier() -> Any:
    try:
        from py3langid import langid
    except ImportError:
        raise ImportError("--detect needs the package `py3langid`: pip install 'sharpseq[detect]'") from None
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
