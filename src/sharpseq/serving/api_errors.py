"""How requests fail: LibreTranslate's shape ``{"error": "…"}`` with a fitting status."""

from __future__ import annotations

import math

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: What is wrong and how to fix it, without quoting texts.
        retry_after: Seconds after which it is worth another try.
    """

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    def response(self) -> Response:
        """Return the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return JSONResponse({"error": str(self)}, status_code=self.status, headers=headers)


def invalid_request(error: ValidationError) -> ApiError:
    """Return what is wrong with the fields of a request, in one line that does not quote them."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "the request"
    if first["type"] == "missing":
        return ApiError(400, f"Invalid request: missing {name} parameter")
    return ApiError(400, f"Invalid request: {name}: {first['msg']}")


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Answer a refused request; anything else is a bug."""
    if not isinstance(error, ApiError):
        raise error
    return error.response()


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what starlette refuses itself: unknown paths and wrong methods."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)
