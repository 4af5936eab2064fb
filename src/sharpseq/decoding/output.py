"""What every decoder returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sharpseq.decoding.length_limits import ReachedLimit


@dataclass(frozen=True)
class DecodeOutput:
    """The decoded batch.

    Args:
        sequences: Token ids padded with the pad token, shape (B, T); no BOS, EOS or mask tokens, and
            no forced first token such as a language code.
        log_prob: Log-probability of each output under the model that wrote it, in nats, shape (B,).
        num_tokens: Length of each output in tokens, shape (B,).
        num_passes: Target-side network passes that the batch took.
        trace: What the decoder records on the way (outputs per pass, candidates), empty unless it has something to say.
        reached_limits: The length limit of each output that reached it, None for the others; B of them, or empty for a
            decoder without limits.
    """

    sequences: Tensor
    log_prob: Tensor
    num_tokens: Tensor
    num_passes: int
    trace: dict[str, Any] = field(default_factory=dict)
    reached_limits: tuple[ReachedLimit | None, ...] = ()
