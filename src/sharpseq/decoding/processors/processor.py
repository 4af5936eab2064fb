"""What logits processors have in common: settings that are declared, and a model that some of them read."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers import LogitsProcessor

from sharpseq.declarations import Method
from sharpseq.decoding.protocols import Batch


@dataclass(frozen=True)
class Processor(Method):
    """A change of the next token's distribution; a subclass is a frozen dataclass with a declaration.

    Attributes:
        cost: Network passes and memory beyond those of the search, in words.
        keeps_best: Whether the most probable token stays the most probable one, so that greedy search writes the same.
    """

    cost: ClassVar[str]
    keeps_best: ClassVar[bool] = False

    @property
    def second_prompt(self) -> str | None:
        """Text with ``{source}`` in it that the model is to read besides its own prompt; None for no such text."""
        return None

    @abstractmethod
    def bind(self, model: Any, inputs: Batch) -> LogitsProcessor:
        """Return what `generate` takes in its ``logits_processor`` for one batch.

        Args:
            model: The model that writes.
            inputs: What it is given: ``input_ids`` (B, S) and ``attention_mask`` (B, S), and a second prompt where
                the processor reads one.

        Raises:
            ValueError: If the model or the inputs lack what the processor reads.
        """


@dataclass(frozen=True)
class DistributionProcessor(Processor, LogitsProcessor):
    """A processor that reads nothing but the distribution, so that it is what `generate` takes already."""

    def bind(self, model: Any, inputs: Batch) -> LogitsProcessor:
        """Return the processor itself."""
        return self

    @abstractmethod
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V) of the next token after ``input_ids`` (R, t), −inf where it may not stand.

        Args:
            input_ids: What is written so far; not read.
            scores: Logits or log-probabilities, −inf where earlier processors forbid a token.
        """
