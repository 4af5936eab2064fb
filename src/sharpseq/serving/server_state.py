"""What the handlers of a running server share."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from sharpseq.serving.admission import Admission
from sharpseq.serving.detection import Detector
from sharpseq.serving.file_store import FileStore
from sharpseq.serving.prometheus_metrics import Metrics
from sharpseq.serving.server_settings import ServerSettings
from sharpseq.serving.translation_service import TranslationService


@dataclass(frozen=True)
class ServerState:
    """A server's parts.

    Args:
        settings: What the operator chose.
        service: Translates.
        admission: Decides who may ask.
        metrics: Counts.
        detector: Detects languages; None where it is not configured.
        files: Keeps translated files; None where files are not translated.
    """

    settings: ServerSettings
    service: TranslationService
    admission: Admission
    metrics: Metrics
    detector: Detector | None
    files: FileStore | None


def state_of(request: Request) -> ServerState:
    """Return the parts of the server that a request came to."""
    state: ServerState = request.app.state.server
    return state
