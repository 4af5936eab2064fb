"""Logs of a server: one JSON object a line, without texts, keys or addresses."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import datetime, timezone

logger = logging.getLogger("sharpseq.serving")

_FIELDS = "fields"


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log that something happened.

    Args:
        event: What, in a word or two.
        level: A level of `logging`.
        fields: Numbers and names that go with it; no text of a request.
    """
    logger.log(level, event, extra={_FIELDS: fields})


def log_bug(error: BaseException) -> None:
    """Log an error that nobody expected."""
    logger.error("bug", exc_info=error)


class JsonFormatter(logging.Formatter):
    """Writes a record as a JSON object. Of an exception, it says the type and the place: a message may quote texts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, tz=timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(record.exc_info[2])]
        return json.dumps(line)


def write_logs(*, is_quiet: bool = False) -> None:
    """Write the logs of this process to standard error.

    Args:
        is_quiet: Whether only warnings and errors are written.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in ((logger.name, logging.INFO), ("uvicorn", logging.WARNING)):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler], False
        each.setLevel(logging.WARNING if is_quiet else level)
