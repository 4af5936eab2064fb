"""The HTTP application: LibreTranslate's API over the models of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sharpseq.serving.api_errors import ApiError, answer_api_error, answer_bug, answer_http_error
from sharpseq.serving.batching import Batcher
from sharpseq.serving.request_fields import TranslateFields, parsed, read_fields
from sharpseq.serving.served_languages import ServedLanguages
from sharpseq.serving.settings import ServerSettings
from sharpseq.serving.translation_service import TranslatedText, TranslationService
from sharpseq.serving.translators import Pair, Quality, Translator, Wish


def create_app(
    translators: Mapping[tuple[Pair, Quality], Translator], settings: ServerSettings | None = None
) -> Starlette:
    """Return the ASGI application that serves models.

    Args:
        translators: The model of each pair of languages and quality; the same object may stand for several, and then
            shares one queue and one thread.
        settings: Limits and choices.

    Returns:
        The application; its threads start and end with its lifespan.
    """
    chosen = settings or ServerSettings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        batchers = {id(each): Batcher(each, chosen.batches) for each in translators.values()}
        languages = ServedLanguages({key: batchers[id(each)] for key, each in translators.items()})
        app.state.service = TranslationService(languages, timeout=chosen.timeout)
        yield
        for batcher in batchers.values():
            batcher.close()

    return Starlette(
        routes=[
            Route("/translate", _translate, methods=["POST"]),
            Route("/languages", _languages, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
        ],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])],
        exception_handlers={ApiError: answer_api_error, HTTPException: answer_http_error, Exception: answer_bug},
        lifespan=lifespan,
    )


async def _translate(request: Request) -> Response:
    service: TranslationService = request.app.state.service
    fields = parsed(TranslateFields, await read_fields(request))
    texts = [fields.q] if isinstance(fields.q, str) else fields.q
    wish = Wish(checked_pair(service, fields.source, fields.target), fields.quality, fields.alternatives)
    translated = await service.translate(texts, wish, format=fields.format)
    return JSONResponse(_answer(fields, translated))


def _answer(fields: TranslateFields, translated: list[TranslatedText]) -> dict[str, object]:
    columns: dict[str, list[object]] = {"translatedText": [each.text for each in translated]}
    if fields.alternatives:
        columns["alternatives"] = [list(each.alternatives) for each in translated]
    if fields.confidence:
        columns["confidence"] = [
            [{"text": sentence.text, "confidence": sentence.confidence} for sentence in each.sentences]
            for each in translated
        ]
    if any(each.errors for each in translated):
        columns["errors"] = [list(each.errors) for each in translated]
    return {name: values[0] if isinstance(fields.q, str) else values for name, values in columns.items()}


def checked_pair(service: TranslationService, source: str, target: str) -> Pair:
    """Return two languages that are served.

    Raises:
        ApiError: If they are not.
    """
    if source not in service.languages.sources:
        raise ApiError(400, f"{source} is not supported; sources: {', '.join(service.languages.sources)}")
    targets = service.languages.targets_of(source)
    if target not in targets:
        raise ApiError(400, f"{target} is not available as a target of {source}; targets: {', '.join(targets)}")
    return Pair(source, target)


async def _languages(request: Request) -> Response:
    return JSONResponse(request.app.state.service.languages.described())


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})
