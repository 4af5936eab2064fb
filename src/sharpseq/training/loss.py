"""The interface between trainers and losses: a loss gives numbers per sequence, a trainer reduces and logs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """The state of training when a loss is computed.

    Args:
        progress: Share of the stage's updates already made, in [0, 1]; 1 in validation, so that validations of one
            stage can be compared despite its schedules.
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
        weight: Factor of the values.
        reduction: ``sequence_mean`` or ``token_mean``; None for the one of the training arguments. In validation, terms
            without a reduction of their own are part of the loss.
    """

    values: Tensor
    weight: float = 1.0
    reduction: str | None = None


@dataclass(frozen=True)
class LossOutput:
    """What a loss returns for a micro-batch.

    Args:
        losses: Loss of each sequence, shape (B,), not reduced.
        num_tokens: What ``token_mean`` weights each sequence by, shape (B,); the same as `Loss.count_tokens`.
        terms: Further terms by name.
        weights: Weight of each sequence relative to maximum likelihood, f'(g), detached, shape (B,); None for a loss
            that has none.
        statistics: Figures to log, by name; in validation with the prefix ``eval_``.
        is_possible: Which sequences the model can produce at all, shape (B,) bool; validation counts the others as
            ``infeasible`` and leaves them out. None for all.
    """

    losses: Tensor
    num_tokens: Tensor
    terms: Mapping[str, Term] = field(default_factory=dict)
    weights: Tensor | None = None
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    is_possible: Tensor | None = None


@runtime_checkable
class PreparesBatches(Protocol):
    """A loss that changes batches before they are counted and scored, such as one that trains on own samples."""

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Return the batch to train on.

        Args:
            model: The model to train, not wrapped for data parallelism.
            batch: A batch from the collator, on the model's device.
            step: The state of training.
        """
        ...


class Loss(Protocol):
    """What a trainer trains on.

    `ScoreLoss` makes one of any objective of scores. The loss owns whatever else it needs, such as a teacher or
    another network. The trainer is responsible for reduction over the accumulation window and all processes, logging,
    checks for non-finite numbers, and resuming.
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
            batch: A batch from the collator, on the model's device.
            step: The state of training.
        """
        ...

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return what is logged, given the means of the statistics: these, and figures computed from them."""
        ...
