"""What a teacher says of the positions of a batch, from which losses take a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sharpseq.objectives.distillation import DistributionPair, pair_of_logits, pair_of_top_k


class TeacherTargets(Protocol):
    """The teacher's distributions at the N positions of a batch, sequence by sequence."""

    @property
    def counts(self) -> Tensor:
        """Positions of each sequence, shape (B,)."""
        ...

    def pair(
        self, logits: Tensor, rows: Tensor, labels: Tensor, groups: Tensor, *, temperature: float
    ) -> DistributionPair:
        """Return what teacher and student say of some positions.

        Args:
            logits: The student's logits, shape (R, V).
            rows: Which of the N positions these are, shape (R,).
            labels: Target tokens, negative where there is none, shape (R,).
            groups: See `DistributionPair`.
            temperature: Divides the logits of both.
        """
        ...


@dataclass(frozen=True)
class HeadTargets:
    """Distributions that are computed from the teacher's hidden states whenever they are needed.

    Args:
        hidden_states: Shape (N, D), without gradient.
        head: From hidden states (R, D) to logits (R, V).
        counts: Shape (B,).
    """

    hidden_states: Tensor
    head: Callable[[Tensor], Tensor]
    counts: Tensor

    def pair(
        self, logits: Tensor, rows: Tensor, labels: Tensor, groups: Tensor, *, temperature: float
    ) -> DistributionPair:
        """Return what teacher and student say of some positions, over the vocabulary."""
        with torch.no_grad():
            target_logits = self.head(self.hidden_states[rows])
        return pair_of_logits(target_logits, logits, labels, groups, temperature=temperature)


@dataclass(frozen=True)
class TopKTargets:
    """Distributions of which the most probable tokens are known.

    Args:
        token_ids: Shape (N, k).
        log_probs: Log-probabilities of these and of all others together, in nats, shape (N, k + 1).
        label_log_probs: Log-probability of the target token, in nats, shape (N,).
        counts: Shape (B,).
        temperature: The temperature at which they were taken.
    """

    token_ids: Tensor
    log_probs: Tensor
    label_log_probs: Tensor
    counts: Tensor
    temperature: float

    def pair(
        self, logits: Tensor, rows: Tensor, labels: Tensor, groups: Tensor, *, temperature: float
    ) -> DistributionPair:
        """Return what teacher and student say of some positions, over the teacher's tokens and all others.

        Raises:
            ValueError: If the temperature is another one: the mass of the other tokens is known at one only.
        """
        if temperature != self.temperature:
            raise ValueError(
                f"`temperature` must be {self.temperature:g}, at which the teacher's outputs were stored; got "
                f"{temperature:g}"
            )
        return pair_of_top_k(
            self.token_ids[rows],
            self.log_probs[rows],
            self.label_log_probs[rows],
            logits,
            labels,
            groups,
            temperature=temperature,
        )
