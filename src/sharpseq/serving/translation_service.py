"""From texts to translated texts: sentences out, through the queue, and back into their layout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sharpseq.serving.api_errors import ApiError
from sharpseq.serving.batching import Closing, QueueFull
from sharpseq.serving.layout import Layout
from sharpseq.serving.markup import escape_html, split_html
from sharpseq.serving.prometheus_metrics import Metrics
from sharpseq.serving.sentences import split_text
from sharpseq.serving.served_languages import ServedLanguages
from sharpseq.serving.translators import Translation, Wish


@dataclass(frozen=True)
class TextFormat:
    """How texts of a format are taken apart and put together.

    Args:
        split: Returns the sentences of a text as plain text.
        join: Returns a plain sentence as it is written in the format.
    """

    split: Callable[[str], Layout]
    join: Callable[[str], str]


FORMATS: Mapping[str, TextFormat] = {
    "text": TextFormat(split_text, str),
    "html": TextFormat(split_html, escape_html),
}
"""The formats of texts by their names in requests."""

_ONE_SECOND = 1.0


@dataclass(frozen=True)
class TranslatedText:
    """A text in another language.

    Args:
        text: The text; a sentence that could not be translated stays as it was.
        alternatives: Other translations of the whole text.
        sentences: The translated sentences with their confidence.
        errors: Why sentences could not be translated.
    """

    text: str
    alternatives: tuple[str, ...]
    sentences: tuple[Translation, ...]
    errors: tuple[str, ...]


class TranslationService:
    """Translates texts with the models of a server.

    Args:
        languages: The models by language.
        timeout: Seconds that the texts of one request may take.
        metrics: Where sentences are counted.
    """

    def __init__(self, languages: ServedLanguages, *, timeout: float, metrics: Metrics) -> None:
        self.languages = languages
        self._timeout = timeout
        self._metrics = metrics

    async def translate(self, texts: Sequence[str], wish: Wish, *, format: str) -> list[TranslatedText]:
        """Translate texts.

        Args:
            texts: The texts of one request.
            wish: What is wanted of them, with languages that are served.
            format: A key of `FORMATS`.

        Returns:
            The translated texts.

        Raises:
            ApiError: If too much waits already, it took too long, or no sentence could be translated.
        """
        form = FORMATS[format]
        layouts = [form.split(text) for text in texts]
        sentences = [sentence for layout in layouts for sentence in layout.sentences]
        translations = await self._translate(sentences, wish)
        if sentences and all(translation.error for translation in translations):
            raise ApiError(400, f"No sentence could be translated: {translations[0].error}")
        taken = iter(translations)
        return [_joined(layout, [next(taken) for _ in layout.sentences], form.join) for layout in layouts]

    async def _translate(self, sentences: Sequence[str], wish: Wish) -> list[Translation]:
        batcher = self.languages.batchers[wish.pair, wish.quality]
        if len(sentences) > batcher.limits.max_queue:
            raise ApiError(413, f"Too long: at most {batcher.limits.max_queue} sentences a request")
        try:
            futures = batcher.submit(sentences, wish, timeout=self._timeout)
        except QueueFull:
            raise ApiError(429, "The server is busy; try again later", retry_after=_ONE_SECOND) from None
        except Closing:
            raise ApiError(503, "The server is going down", retry_after=_ONE_SECOND) from None
        self._metrics.sentences_in_work.inc(len(sentences))
        try:
            # Cancelled, it takes what still waits out of the queue.
            waiting = asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
            return await asyncio.wait_for(waiting, self._timeout)
        except asyncio.TimeoutError:
            message = f"The translation took longer than {self._timeout:g} seconds"
            raise ApiError(503, message, retry_after=_ONE_SECOND) from None
        finally:
            self._metrics.sentences_in_work.dec(len(sentences))


def _joined(layout: Layout, translations: Sequence[Translation], join: Callable[[str], str]) -> TranslatedText:
    pieces = [
        sentence if translation.error else translation.text
        for sentence, translation in zip(layout.sentences, translations, strict=True)
    ]
    most = max((len(translation.alternatives) for translation in translations), default=0)
    others = [
        [
            translation.alternatives[number] if number < len(translation.alternatives) else piece
            for piece, translation in zip(pieces, translations, strict=True)
        ]
        for number in range(most)
    ]
    text, *alternatives = (layout.filled([join(sentence) for sentence in each]) for each in (pieces, *others))
    errors = tuple(translation.error for translation in translations if translation.error)
    return TranslatedText(text, tuple(alternatives), tuple(translations), errors)
