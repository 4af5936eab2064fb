"""What an operator chooses for a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sharpseq.serving.admission import ApiKeys
from sharpseq.serving.batching import BatchLimits


@dataclass(frozen=True)
class ServerSettings:
    """Limits and choices of a server; each worker process counts for itself.

    Args:
        batches: How batches are made.
        timeout: Seconds after which a request that is not answered fails.
        char_limit: Characters of the texts of a request at most; None for no limit but that of the body.
        body_limit: Bytes of a request's body at most.
        max_requests: Requests that are worked on at the same time; more are refused.
        requests_per_minute: Of an API key, or of an address where no key is needed; None for any number.
        api_keys: The keys, one of which each request must have; None where nobody needs one.
        detects: Whether languages of texts are detected.
        files_folder: An empty folder for translated files until they are fetched; None where files are not translated.
    """

    batches: BatchLimits = field(default_factory=BatchLimits)
    timeout: float = 30.0
    char_limit: int | None = 20_000
    body_limit: int = 2_097_152
    max_requests: int = 200
    requests_per_minute: float | None = None
    api_keys: ApiKeys | None = None
    detects: bool = False
    files_folder: Path | None = None
