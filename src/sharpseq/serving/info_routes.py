"""The requests that only ask about the server: languages, settings, health, metrics, schema, page."""

from __future__ import annotations

from importlib.resources import files

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from sharpseq.serving.language_names import language_name
from sharpseq.serving.openapi import schema
from sharpseq.serving.server_state import state_of
from sharpseq.serving.translation_routes import AUTO, FILE_FORMATS

_NO_LIMIT = -1
# The page brings everything with it, and talks to nobody else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


async def languages(request: Request) -> Response:
    """Answer ``GET /languages``."""
    return JSONResponse(state_of(request).service.languages.described())


async def frontend_settings(request: Request) -> Response:
    """Answer ``GET /frontend/settings``."""
    state = state_of(request)
    first = state.service.languages.pairs[0]
    has_keys = state.settings.api_keys is not None
    source = AUTO if state.detector is not None else first.source
    return JSONResponse(
        {
            "apiKeys": has_keys,
            "charLimit": _NO_LIMIT if state.settings.char_limit is None else state.settings.char_limit,
            "filesTranslation": state.files is not None,
            "frontendTimeout": 500,
            "keyRequired": has_keys,
            "language": {
                "source": {"code": source, "name": "Auto Detect" if source == AUTO else language_name(source)},
                "target": {"code": first.target, "name": language_name(first.target)},
            },
            "suggestions": False,
            "supportedFilesFormat": list(FILE_FORMATS) if state.files is not None else [],
        }
    )


async def health(request: Request) -> Response:
    """Answer ``GET /health``."""
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Answer ``GET /metrics``."""
    return Response(state_of(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def spec(request: Request) -> Response:
    """Answer ``GET /spec``."""
    return JSONResponse(schema())


async def page(request: Request) -> Response:
    """Answer ``GET /``."""
    content = files("sharpseq.serving").joinpath("page.html").read_text(encoding="utf-8")
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})
