"""The fields of a request, from JSON or a form: what LibreTranslate's API takes, and two fields of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sharpseq.serving.api_errors import ApiError, invalid_request
from sharpseq.serving.translators import Quality

MOST_ALTERNATIVES = 5
_MOST_FIELDS = 1000

_Fields = TypeVar("_Fields", bound=BaseModel)
LanguageCode = Annotated[str, Field(min_length=1, max_length=40)]


class KeyFields(BaseModel):
    """What every request may have."""

    api_key: str | None = Field(None, max_length=200, description="API key, where the server asks for one.")


class DetectFields(KeyFields):
    """What ``/detect`` takes."""

    q: str = Field(description="Text whose language is wanted.", examples=["What language is this?"])


class LanguageFields(KeyFields):
    """What everything that translates takes."""

    source: LanguageCode = Field(description="Code of the text's language, or `auto`.", examples=["en"])
    target: LanguageCode = Field(description="Code of the language to translate into.", examples=["de"])
    quality: Quality = Field("fast", description="`fast`: one pass or greedy; `best`: a search or rescoring.")


class TranslateFields(LanguageFields):
    """What ``/translate`` takes."""

    q: str | list[str] = Field(description="One text, or several.", examples=["Two dogs run."])
    format: Literal["text", "html"] = Field("text", description="With `html`, tags stay as they are.")
    alternatives: int = Field(
        0, ge=0, le=MOST_ALTERNATIVES, description="How many other translations are wanted; there may be fewer."
    )
    confidence: bool = Field(False, description="Whether the sentences with their confidence are wanted.")


class FileFields(LanguageFields):
    """What ``/translate_file`` takes besides the file."""


@dataclass(frozen=True)
class SentFile:
    """A file in a form.

    Args:
        name: The name that the client gives it.
        content: Its bytes.
    """

    name: str
    content: bytes


async def read_fields(request: Request) -> dict[str, Any]:
    """Return the fields of a request by name; those that a form repeats are lists.

    Raises:
        ApiError: If the body is not what its content type says, or has another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request)
    body = await request.body()
    if kind == "application/json":
        try:
            fields = from_json(body)
        except ValueError as error:
            raise ApiError(400, "Invalid request: the body is no valid JSON in UTF-8") from error
        if not isinstance(fields, dict):
            raise ApiError(400, "Invalid request: the JSON body must be an object")
        return fields
    if kind == "application/x-www-form-urlencoded":
        try:
            return _gathered(
                parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
            )
        except ValueError as error:
            raise ApiError(400, "Invalid request: the form is not valid UTF-8, or has too many fields") from error
    raise ApiError(415, "Unsupported content type: send application/json or a form")


def parsed(kind: type[_Fields], fields: dict[str, Any]) -> _Fields:
    """Return fields checked against a model.

    Raises:
        ApiError: If a field is missing or wrong.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error) from error


async def _multipart(request: Request) -> dict[str, Any]:
    limits: dict[str, int] = {"max_files": 1, "max_fields": _MOST_FIELDS, "max_part_size": len(await request.body())}
    try:
        async with request.form(**limits) as form:
            items = [
                (name, SentFile(value.filename or "", await value.read()) if isinstance(value, UploadFile) else value)
                for name, value in form.multi_items()
            ]
    except HTTPException as error:
        raise ApiError(400, "Invalid request: the form is broken") from error
    return _gathered(items)


def _gathered(items: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in items:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields
