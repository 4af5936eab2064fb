"""What an operator chooses for a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from sharpseq.serving.batching import BatchLimits


@dataclass(frozen=True)
class ServerSettings:
    """Limits and choices of a server; each worker process counts for itself.

    Args:
        batches: How batches are made.
        timeout: Seconds after which a request that is not answered fails.
        char_limit: Characters of the texts of a request at most; None for no limit but that of the body.
        body_limit: Bytes of a request's body at most.
    """

    batches: BatchLimits = field(default_factory=BatchLimits)
    timeout: float = 30.0
    char_limit: int | None = 20_000
    body_limit: int = 2_097_152
