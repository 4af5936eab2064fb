"""Which examples a CTC model can learn at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sharpseq.data import EncodedExample
from sharpseq.scoring import ctc_frames_needed


def drop_infeasible(examples: Sequence[EncodedExample], *, factor: int) -> tuple[list[EncodedExample], int]:
    """Leave out examples whose target, with a blank between repeats, needs more frames than the source gives.

    Args:
        examples: Encoded examples.
        factor: Frames for each source token.

    Returns:
        The feasible examples, and how many were left out.

    Example:
        >>> drop_infeasible([EncodedExample(0, [5, 0], [6, 6, 6]), EncodedExample(1, [5, 0], [6, 7])], factor=2)[1]
        1
    """
    kept = [
        example
        for example in examples
        if int(ctc_frames_needed(torch.tensor([example.labels]))) <= factor * len(example.input_ids)
    ]
    return kept, len(examples) - len(kept)
