"""The HTTP application: LibreTranslate's API over the models of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from sharpseq.serving import info_routes, translation_routes
from sharpseq.serving.admission import Admission
from sharpseq.serving.api_errors import ApiError, answer_api_error, answer_http_error
from sharpseq.serving.batching import Batcher
from sharpseq.serving.detection import Detector, LangidDetector
from sharpseq.serving.file_store import FileStore
from sharpseq.serving.gate import Gate
from sharpseq.serving.logs import log_event
from sharpseq.serving.prometheus_metrics import Metrics
from sharpseq.serving.served_languages import ServedLanguages
from sharpseq.serving.server_settings import ServerSettings
from sharpseq.serving.server_state import ServerState
from sharpseq.serving.translation_service import TranslationService
from sharpseq.serving.translators import Pair, Quality, Translator

_ROUTES = (
    Route("/translate", translation_routes.translate, methods=["POST"]),
    Route("/detect", translation_routes.detect, methods=["POST"]),
    Route("/translate_file", translation_routes.translate_file, methods=["POST"]),
    Route("/download_file/{name}", translation_routes.download_file, methods=["GET"]),
    Route("/languages", info_routes.languages, methods=["GET"]),
    Route("/frontend/settings", info_routes.frontend_settings, methods=["GET"]),
    Route("/health", info_routes.health, methods=["GET"]),
    Route("/metrics", info_routes.metrics, methods=["GET"]),
    Route("/spec", info_routes.spec, methods=["GET"]),
    Route("/", info_routes.page, methods=["GET"]),
)
# As logs and metrics name them; what follows in a path is left out.
_PATHS = frozenset(route.path.partition("/{")[0] for route in _ROUTES)


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

    Raises:
        UserError: If languages are to be detected, and one is not known.
        ImportError: If they are, and the package for it is not installed.
    """
    chosen = settings or ServerSettings()
    metrics = Metrics()
    detector: Detector | None = LangidDetector([pair.source for pair, _ in translators]) if chosen.detects else None

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        batchers = _batchers(translators, chosen, metrics)
        app.state.server = ServerState(
            chosen,
            TranslationService(ServedLanguages(batchers), timeout=chosen.timeout, metrics=metrics),
            Admission(chosen.api_keys, requests_per_minute=chosen.requests_per_minute),
            metrics,
            detector,
            FileStore(chosen.files_folder) if chosen.files_folder is not None else None,
        )
        log_event("started", pairs=sorted({str(pair) for pair, _ in translators}))
        yield
        for batcher in set(batchers.values()):
            await to_thread.run_sync(batcher.close)
        log_event("stopped")

    gate = Middleware(
        Gate,
        paths=_PATHS,
        metrics=metrics,
        body_limit=chosen.body_limit,
        body_timeout=chosen.timeout,
        max_requests=chosen.max_requests,
    )
    return Starlette(
        routes=_ROUTES,
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"]), gate],
        exception_handlers={ApiError: answer_api_error, HTTPException: answer_http_error},
        lifespan=lifespan,
    )


def _batchers(
    translators: Mapping[tuple[Pair, Quality], Translator], settings: ServerSettings, metrics: Metrics
) -> dict[tuple[Pair, Quality], Batcher]:
    made: dict[int, Batcher] = {}
    for (pair, quality), translator in translators.items():
        if id(translator) not in made:
            record = partial(metrics.record_batch, f"{pair}/{quality}")
            made[id(translator)] = Batcher(translator, settings.batches, on_batch=record)
    return {key: made[id(translator)] for key, translator in translators.items()}
