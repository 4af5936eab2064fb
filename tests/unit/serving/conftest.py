"""A translator without a model, and a server in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from sharpseq.serving.app import create_app
from sharpseq.serving.server_settings import ServerSettings
from sharpseq.serving.translators import Pair, Quality, Translation, Translator, Wish

ENGLISH_GERMAN = Pair("en", "de")
Serve = Callable[..., TestClient]


class FakeTranslator:
    """Writes sentences in capitals, or backwards too where quality is wanted; notes its batches.

    Args:
        longest: Characters of a sentence at most.

    Attributes:
        batches: The sentences of each call, with the wish.
        gate: Calls wait for it.
    """

    def __init__(self, *, longest: int = 1000) -> None:
        self.longest = longest
        self.batches: list[tuple[list[str], Wish]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_busy = threading.Event()

    def translate(self, sentences: Sequence[str], wish: Wish, /) -> list[Translation]:
        self.is_busy.set()
        self.gate.wait(10)
        self.batches.append((list(sentences), wish))
        return [self._translated(sentence, wish) for sentence in sentences]

    def _translated(self, sentence: str, wish: Wish) -> Translation:
        if len(sentence) > self.longest:
            return Translation("", error=f"{len(sentence)} tokens, the model reads at most {self.longest}")
        if "POISON" in sentence:
            raise RuntimeError("a bug that quotes POISON")
        text = sentence.upper() if wish.quality == "fast" else sentence.upper()[::-1]
        others = tuple(f"{text}{number}" for number in range(wish.num_alternatives))
        return Translation(text, others, confidence=0.5)


@pytest.fixture
def translator() -> FakeTranslator:
    return FakeTranslator()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    with ExitStack() as running:

        def start(translator: Translator | Mapping[tuple[Pair, Quality], Translator], **settings: Any) -> TestClient:
            models = (
                translator
                if isinstance(translator, Mapping)
                else {(ENGLISH_GERMAN, "fast"): translator, (ENGLISH_GERMAN, "best"): translator}
            )
            app = create_app(models, ServerSettings(**settings))
            return running.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start
