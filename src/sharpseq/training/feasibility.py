"""Which examples a one-pass model can learn at all: targets that fit into the frames, lengths that it can predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from sharpseq.data import EncodedExample, FilterReport, LengthFilter
from sharpseq.models import MODELS
from sharpseq.models.length_prediction import MAX_DIFFERENCE, LengthPredictingModel
from sharpseq.scoring import ctc_frames_needed

_LINES_SHOWN = 3


@dataclass(frozen=True)
class CtcFilter(LengthFilter):
    """A length filter that also leaves out targets that, with a blank between repeats, need more frames than there are.

    Args:
        upsampling_factor: Frames for each source token.

    Example:
        >>> examples = [EncodedExample(0, [5, 0], [6, 6, 6]), EncodedExample(1, [5, 0], [6, 7])]
        >>> kept, report = CtcFilter(upsampling_factor=2).apply(examples)
        >>> print(report)
        kept 1 of 2 examples; dropped 1: 1 target over 2 frames a source token, the `upsampling_factor` (line 1)
    """

    upsampling_factor: int = 2

    def apply(self, examples: Iterable[EncodedExample]) -> tuple[list[EncodedExample], FilterReport]:
        """Split off what is out of bounds or does not fit into the frames; see `LengthFilter.apply`."""
        within, report = super().apply(examples)
        kept: list[EncodedExample] = []
        lines: list[int] = []
        for example in within:
            if self._fits(example):
                kept.append(example)
            else:
                lines.append(example.index + 1)
        if lines:
            reason = f"target over {self.upsampling_factor} frames a source token, the `upsampling_factor`"
            report += FilterReport(0, {reason: len(lines)}, {reason: tuple(lines[:_LINES_SHOWN])})
        return kept, report

    def _fits(self, example: EncodedExample) -> bool:
        needed = int(ctc_frames_needed(torch.tensor([example.labels])))
        return needed <= self.upsampling_factor * len(example.input_ids)


def count_beyond_prediction(examples: Iterable[EncodedExample], family: str) -> int:
    """Return how many targets are of a length that models of a family cannot predict; 0 where they predict none.

    Args:
        examples: Encoded examples.
        family: Row of `sharpseq.models.MODELS`.

    Example:
        >>> examples = [EncodedExample(0, [5, 0], [6] * 52), EncodedExample(1, [5, 0], [6] * 53)]
        >>> count_beyond_prediction(examples, "cmlm"), count_beyond_prediction(examples, "ctc")
        (1, 0)
    """
    model = MODELS[family].model
    if not (isinstance(model, type) and issubclass(model, LengthPredictingModel)):
        return 0
    return sum(abs(len(example.labels) - len(example.input_ids)) > MAX_DIFFERENCE for example in examples)
