"""Which examples a one-pass model can learn at all: targets that fit, of lengths that it can predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from sharpseq.data import EncodedExample, FilterReport, LengthFilter
from sharpseq.models import MODELS
from sharpseq.models.length_prediction import MAX_DIFFERENCE, LengthPredictingModel
from sharpseq.scoring import ctc_frames_needed

_LINES_SHOWN = 3


class RoomFilter(LengthFilter, ABC):
    """A length filter that also leaves out targets for which a one-pass model has too few positions."""

    @property
    @abstractmethod
    def reason(self) -> str:
        """What is wrong with a target that does not fit, as reports say it."""

    @abstractmethod
    def has_room(self, example: EncodedExample) -> bool:
        """Return whether the target of an example fits."""

    def apply(self, examples: Iterable[EncodedExample]) -> tuple[list[EncodedExample], FilterReport]:
        """Split off what is out of bounds or does not fit; see `LengthFilter.apply`."""
        within, report = super().apply(examples)
        kept: list[EncodedExample] = []
        lines: list[int] = []
        for example in within:
            if self.has_room(example):
                kept.append(example)
            else:
                lines.append(example.index + 1)
        if lines:
            report += FilterReport(0, {self.reason: len(lines)}, {self.reason: tuple(lines[:_LINES_SHOWN])})
        return kept, report


@dataclass(frozen=True)
class CtcFilter(RoomFilter):
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

    @property
    def reason(self) -> str:
        """What is wrong with a target that does not fit, as reports say it."""
        return f"target over {self.upsampling_factor} frames a source token, the `upsampling_factor`"

    def has_room(self, example: EncodedExample) -> bool:
        """Return whether there are enough frames for the target of an example."""
        needed = int(ctc_frames_needed(torch.tensor([example.labels])))
        return needed <= self.upsampling_factor * len(example.input_ids)


@dataclass(frozen=True)
class DagFilter(RoomFilter):
    """A length filter that also leaves out targets with more tokens than a graph has vertices between its ends.

    Args:
        graph_factor: Vertices for each source token.

    Example:
        >>> examples = [EncodedExample(0, [5, 0], [6, 7, 8]), EncodedExample(1, [5, 0], [6, 7])]
        >>> kept, report = DagFilter(graph_factor=2).apply(examples)
        >>> print(report)
        kept 1 of 2 examples; dropped 1: 1 target over 2 vertices a source token less 2, the `graph_factor` (line 1)
    """

    graph_factor: int = 4

    @property
    def reason(self) -> str:
        """What is wrong with a target that does not fit, as reports say it."""
        return f"target over {self.graph_factor} vertices a source token less 2, the `graph_factor`"

    def has_room(self, example: EncodedExample) -> bool:
        """Return whether there are enough vertices for the target of an example."""
        return len(example.labels) <= self.graph_factor * len(example.input_ids) - 2


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
