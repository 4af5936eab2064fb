"""What every request passes first and last: limits of size and number, then its line in the log and the metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sharpseq.serving.api_errors import ApiError
from sharpseq.serving.logs import log_bug, log_event
from sharpseq.serving.prometheus_metrics import Metrics

_CLIENT_LEFT = 499
_OTHER = "other"
_WORK = "sharpseq.work"


def note_work(scope: Scope, **fields: object) -> None:
    """Note numbers about a request for its line in the log."""
    scope.setdefault(_WORK, {}).update(fields)


class Gate:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        paths: First parts of the paths that there are; all others are logged as one, since anything may stand there.
        metrics: Where requests are counted.
        body_limit: Bytes of a body at most.
        body_timeout: Seconds that a body may take to arrive, and an answer to leave.
        max_requests: Requests that are worked on at the same time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        paths: Collection[str],
        metrics: Metrics,
        body_limit: int,
        body_timeout: float,
        max_requests: int,
    ) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._metrics = metrics
        self._body_limit = body_limit
        self._body_timeout = body_timeout
        self._max_requests = max_requests
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), _CLIENT_LEFT

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                await asyncio.wait_for(send(message), self._body_timeout)
            except asyncio.TimeoutError:  # who reads so slowly holds a place that others need
                raise ClientDisconnect from None

        is_work = scope["method"] == "POST"  # what only looks after the server is let in however busy it is
        self._num_requests += is_work
        try:
            if is_work and self._num_requests > self._max_requests:
                raise ApiError(429, "The server is busy; try again later", retry_after=1)
            await self._app(scope, self._limited(scope, receive), noting)
        except ClientDisconnect:
            pass
        except ApiError as error:
            await error.response()(scope, receive, noting)
        except Exception as error:
            log_bug(error)
            if status == _CLIENT_LEFT:
                await ApiError(500, "Internal server error").response()(scope, receive, noting)
        finally:
            self._num_requests -= is_work
            self._finish(scope, status, time.perf_counter() - began)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        too_large = ApiError(413, f"The body is too large: at most {self._body_limit} bytes")
        deadline = time.monotonic() + self._body_timeout
        num_read, is_complete = 0, False

        async def limited() -> Message:
            nonlocal num_read, is_complete
            if is_complete:
                return await receive()
            if not announced.isdigit() or int(announced) > self._body_limit:
                raise too_large
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise ApiError(408, f"The body took longer than {self._body_timeout:g} seconds") from None
            num_read += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if num_read > self._body_limit:
                raise too_large
            return message

        return limited

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        first = "/" + scope["path"].removeprefix("/").partition("/")[0]
        path = scope["path"] if scope["path"] in self._paths else first if first in self._paths else _OTHER
        self._metrics.record_request(path, status, seconds)
        milliseconds = round(1000 * seconds, 1)
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else _OTHER
        work = scope.get(_WORK, {})
        log_event("request", method=method, path=path, status=status, milliseconds=milliseconds, **work)
