"""The seam between trainers and losses: a loss gives numbers per sequence, a trainer reduces, logs and resumes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """Where training stands when a loss is computed.

    Args:
        progress: Share of the stage's updates already made, in [0, 1]; 1 in validation, so that validations of one
            stage can be compared whatever its schedules do.
        update: Number of updates already made.
        seed: Seed of the training.
        is_training: False in validation.
    """

    progress: float
    update: int
    seed: int
    is_training: bool


@dataclass(frozen=True)
class Statistic:
    """A figure to log: the sum of the values over the sum of the counts, over micro-batches and processes.

    Args:
        values: Of each sequence, shape (B,); no gradient is kept.
        counts: What each counts, shape (B,), such as its tokens; None for a figure that is a sum.
    """

    values: Tensor
    counts: Tensor | None


@dataclass(frozen=True)
class Term:
    """An addition to the loss with a reduction of its own.

    Args:
        values: Of each sequence, shape (B,).
        weight: What it is multiplied by.
        reduction: ``sequence_mean`` or ``token_mean``; None for that of the training arguments. In validation, terms
            without a reduction of their own are part of the loss.
    """

    values: Tensor
    weight: float = 1.0
    reduction: str | None = None


@dataclass(frozen=True)
class LossOutput:
    """What a loss says of a micro-batch.

    Args:
        losses: Loss of each sequence, shape (B,), not reduced.
        num_tokens: What ``token_mean`` weights each sequence by, shape (B,); the same as `Loss.count_tokens`.
        terms: Further terms by name.
        weights: Weight of each sequence relative to maximum likelihood, f'(g), detached, shape (B,); None for a loss
            that has none.
        statistics: Figures to log, by name. In training they stand beside the loss, in validation behind ``eval_``.
        is_possible: Which sequences the model can produce at all, shape (B,) bool; validation counts the others as
            ``infeasible`` and leaves them out. None for all.
    """

    losses: Tensor
    num_tokens: Tensor
    terms: Mapping[str, Term] = field(default_factory=dict)
    weights: Tensor | None = None
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    is_possible: Tensor | None = None


class Loss(Protocol):
    """What a trainer trains on.

    `ScoreLoss` makes one of any objective of scores. A teacher, a reference or a network of its own belong to the loss;
    reduction over the accumulation window and all processes, logging, checks for numbers that are not finite, and
    resuming belong to the trainer.
    """

    @property
    def has_weights(self) -> bool:
        """Whether outputs have ``weights`` in training."""
        ...

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return how many tokens each sequence of a batch counts, shape (B,), before any forward pass."""
        ...

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Return the losses of a micro-batch.

        Args:
            model: The model to train, wrapped for data parallelism or not.
            batch: What the collator made, on the model's device.
            step: Where training stands.
        """
        ...

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged, given the means of the statistics: those, and what follows from them."""
        ...
