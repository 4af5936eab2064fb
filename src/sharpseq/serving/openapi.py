"""The OpenAPI schema, made from the fields that requests are checked against."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from sharpseq import __version__
from sharpseq.serving.request_fields import DetectFields, FileFields, TranslateFields

_TEXT = {"type": "string"}
_TEXTS = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 100}
_ERROR_STATUSES = {
    400: "A field or the body is wrong",
    403: "The API key is missing or unknown, or the server does not do this",
    408: "The body took too long to arrive",
    413: "The body has too many bytes or sentences",
    415: "The content type is none of those that are read",
    429: "Too many requests; see the header Retry-After",
    500: "A bug",
    503: "It took too long, or the server is going down",
}


def _object(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _array(items: object) -> dict[str, Any]:
    return {"type": "array", "items": items}


_DETECTED = _object(language=_TEXT, confidence=_NUMBER)
_LANGUAGE = _object(code=_TEXT, name=_TEXT)
_SENTENCES = _array(_object(text=_TEXT, confidence={"type": ["number", "null"], "minimum": 0, "maximum": 1}))
_TRANSLATED = _object(
    translatedText=_TEXTS,
    alternatives={"oneOf": [_array(_TEXT), _array(_array(_TEXT))]},
    detectedLanguage={"oneOf": [_DETECTED, _array(_DETECTED)]},
    confidence={"oneOf": [_SENTENCES, _array(_SENTENCES)]},
    errors={"oneOf": [_array(_TEXT), _array(_array(_TEXT))]},
) | {"required": ["translatedText"]}
_SETTINGS = _object(
    apiKeys={"type": "boolean"},
    charLimit={"type": "integer"},
    filesTranslation={"type": "boolean"},
    frontendTimeout={"type": "integer"},
    keyRequired={"type": "boolean"},
    language=_object(source=_LANGUAGE, target=_LANGUAGE),
    suggestions={"type": "boolean"},
    supportedFilesFormat=_array(_TEXT),
)
_FORMS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")


@cache
def schema() -> dict[str, Any]:
    """Return the schema of the API.

    Example:
        >>> sorted(schema()["paths"])[:3]
        ['/detect', '/download_file/{name}', '/frontend/settings']
    """
    file = FileFields.model_json_schema()
    file["properties"]["file"] = {"type": "string", "format": "binary", "description": "A .txt file in UTF-8."}
    file["required"] = [*file["required"], "file"]
    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sharpseq",
            "version": __version__,
            "description": "Translation with LibreTranslate's API; `quality` and `confidence` are our own fields.",
        },
        "paths": {
            "/translate": {"post": _work("Translate texts", _fields(TranslateFields), _TRANSLATED)},
            "/detect": {"post": _work("Detect the language of a text", _fields(DetectFields), _array(_DETECTED))},
            "/translate_file": {
                "post": _work(
                    "Translate a file of text",
                    {"multipart/form-data": {"schema": file}},
                    _object(translatedFileUrl=_TEXT),
                )
            },
            "/download_file/{name}": {
                "get": _asked("Fetch a translated file", _TEXT, kind="text/plain") | {"parameters": [name]}
            },
            "/languages": {
                "get": _asked("The languages", _array(_object(code=_TEXT, name=_TEXT, targets=_array(_TEXT))))
            },
            "/frontend/settings": {"get": _asked("Settings for pages", _SETTINGS)},
            "/health": {"get": _asked("Whether the server is up", _object(status=_TEXT))},
            "/metrics": {"get": _asked("Numbers for Prometheus", _TEXT, kind="text/plain")},
        },
    }


def _fields(kind: type[BaseModel]) -> dict[str, Any]:
    return {name: {"schema": kind.model_json_schema()} for name in _FORMS}


def _answer(description: str, content: object, kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": content}}}


def _asked(summary: str, answer: object, *, kind: str = "application/json") -> dict[str, Any]:
    failed = _answer("It is not there", _object(error=_TEXT))
    return {"summary": summary, "responses": {"200": _answer("The answer", answer, kind), "404": failed}}


def _work(summary: str, request: dict[str, Any], answer: object) -> dict[str, Any]:
    responses = {str(status): _answer(text, _object(error=_TEXT)) for status, text in _ERROR_STATUSES.items()}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": request},
        "responses": {"200": _answer("The answer", answer), **responses},
    }
