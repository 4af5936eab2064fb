"""The requests that do work: ``/translate``, ``/detect``, ``/translate_file``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sharpseq.serving.api_errors import ApiError
from sharpseq.serving.detection import DetectedLanguage, Detector
from sharpseq.serving.file_store import StoreFull
from sharpseq.serving.gate import note_work
from sharpseq.serving.request_fields import (
    DetectFields,
    FileFields,
    KeyFields,
    LanguageFields,
    SentFile,
    TranslateFields,
    parsed,
    read_fields,
)
from sharpseq.serving.server_state import ServerState, state_of
from sharpseq.serving.translation_service import TranslatedText
from sharpseq.serving.translators import Pair, Wish

FILE_FORMATS = (".txt",)
"""Endings of the files that are translated."""

AUTO = "auto"
"""The source language of a request that does not know it."""

_MOST_DETECTED = 5
_Result = TypeVar("_Result")


async def translate(request: Request) -> Response:
    """Answer ``POST /translate``."""
    state = state_of(request)
    fields = await _admitted(request, TranslateFields)
    texts = [fields.q] if isinstance(fields.q, str) else fields.q
    _check_length(state, texts)
    pair, detected = _languages(state, fields, "\n".join(texts))
    wish = Wish(pair, fields.quality, fields.alternatives)
    translated = await _unless_client_leaves(request, state.service.translate(texts, wish, format=fields.format))
    _note(request, wish, texts, translated)
    return JSONResponse(_answer(fields, translated, detected))


async def detect(request: Request) -> Response:
    """Answer ``POST /detect``."""
    state = state_of(request)
    fields = await _admitted(request, DetectFields)
    found = _detector(state).detect(fields.q)[:_MOST_DETECTED]
    return JSONResponse([_described(each) for each in found])


async def translate_file(request: Request) -> Response:
    """Answer ``POST /translate_file``."""
    state = state_of(request)
    fields = await read_fields(request)
    file = fields.pop("file", None)
    chosen = parsed(FileFields, fields)
    _admit(request, chosen)
    if state.files is None:
        raise ApiError(403, "Files are not translated on this server")
    if not isinstance(file, SentFile):
        raise ApiError(400, "Invalid request: missing file parameter")
    if not file.name.lower().endswith(FILE_FORMATS):
        raise ApiError(400, f"Invalid request: only files of text are translated ({', '.join(FILE_FORMATS)})")
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ApiError(400, "Invalid request: the file is not UTF-8") from None
    _check_length(state, [text])
    pair, _ = _languages(state, chosen, text)
    wish = Wish(pair, chosen.quality)
    [translated] = await _unless_client_leaves(request, state.service.translate([text], wish, format="text"))
    _note(request, wish, [text], [translated])
    try:
        name = state.files.put(translated.text.encode())
    except StoreFull:
        raise ApiError(503, "There is no room for files now; try again later", retry_after=60) from None
    return JSONResponse({"translatedFileUrl": str(request.url_for("download_file", name=name))})


async def download_file(request: Request) -> Response:
    """Answer ``GET /download_file/NAME``."""
    files = state_of(request).files
    content = None if files is None else files.get(request.path_params["name"])
    if content is None:
        raise ApiError(404, "There is no such file, or no more")
    headers = {"Content-Disposition": 'attachment; filename="translated.txt"', "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


_Fields = TypeVar("_Fields", bound=KeyFields)


async def _admitted(request: Request, kind: type[_Fields]) -> _Fields:
    fields = parsed(kind, await read_fields(request))
    _admit(request, fields)
    return fields


def _admit(request: Request, fields: KeyFields) -> None:
    state_of(request).admission.admit(fields.api_key, request.client.host if request.client else "")


def _check_length(state: ServerState, texts: Sequence[str]) -> None:
    limit, length = state.settings.char_limit, sum(map(len, texts))
    if limit is not None and length > limit:
        raise ApiError(400, f"Invalid request: {length} characters, the limit is {limit}")


def _detector(state: ServerState) -> Detector:
    if state.detector is None:
        raise ApiError(400, "Languages are not detected on this server; give the source language")
    return state.detector


def _languages(state: ServerState, fields: LanguageFields, text: str) -> tuple[Pair, DetectedLanguage | None]:
    """Return the languages of a request, and the detected one if its source is to be detected."""
    languages, detected, source = state.service.languages, None, fields.source
    if source == AUTO:
        known = [each for each in _detector(state).detect(text) if each.code in languages.sources]
        detected = known[0] if known else DetectedLanguage(languages.sources[0], 0.0)
        source = detected.code
    if source not in languages.sources:
        raise ApiError(400, f"{source} is not supported; sources: {', '.join(languages.sources)}")
    targets = languages.targets_of(source)
    if fields.target not in targets:
        raise ApiError(400, f"{fields.target} is not available as a target of {source}; targets: {', '.join(targets)}")
    return Pair(source, fields.target), detected


def _described(detected: DetectedLanguage) -> dict[str, object]:
    return {"language": detected.code, "confidence": detected.confidence}


def _answer(
    fields: TranslateFields, translated: Sequence[TranslatedText], detected: DetectedLanguage | None
) -> dict[str, object]:
    columns: dict[str, list[object]] = {"translatedText": [each.text for each in translated]}
    if detected is not None:
        columns["detectedLanguage"] = [_described(detected)] * len(translated)
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


def _note(request: Request, wish: Wish, texts: Sequence[str], translated: Sequence[TranslatedText]) -> None:
    num_characters = sum(map(len, texts))
    state_of(request).metrics.characters.inc(num_characters)
    note_work(
        request.scope,
        pair=str(wish.pair),
        quality=wish.quality,
        characters=num_characters,
        sentences=sum(len(each.sentences) for each in translated),
        errors=sum(len(each.errors) for each in translated),
    )


async def _unless_client_leaves(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Do work, and stop when nobody waits for it any more.

    Raises:
        ClientDisconnect: If the client has left.
    """
    task, leaving = asyncio.create_task(work), asyncio.create_task(_client_leaves(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
