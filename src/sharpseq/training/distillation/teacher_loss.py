"""What the losses of students share: a teacher, and comparing it with the student position by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sharpseq.objectives.distillation import TokenDistillation, position_values
from sharpseq.scoring import BLOCK, ScoreRequest, SequenceScores
from sharpseq.training.distillation.targets import TeacherTargets
from sharpseq.training.distillation.teachers import Teacher, labels_of
from sharpseq.training.loss import LossOutput, Step
from sharpseq.training.score_loss import ScoreLoss


@dataclass(frozen=True)
class Compared:
    """A batch on which a student was compared with its teacher.

    Args:
        scores: The student's scores of the targets.
        gold: The loss of the targets themselves.
        values: Number of each position by the name of the method, shape (B, P).
        mask: Which positions count, shape (B, P).
    """

    scores: SequenceScores
    gold: LossOutput
    values: Mapping[str, Tensor]
    mask: Tensor

    @property
    def counts(self) -> Tensor:
        """Positions of each sequence, shape (B,)."""
        return self.mask.sum(1)


@dataclass(frozen=True, eq=False)
class TeacherLoss:
    """Base of the losses of a student.

    Args:
        teacher: The teacher.
        scores: The loss of the targets themselves, which also scores the student.
    """

    teacher: Teacher
    scores: ScoreLoss

    has_weights: ClassVar[bool] = False

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each sequence, shape (B,)."""
        return self.scores.count_tokens(model, batch)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means, with the number of latent dimensions in use where there is a latent."""
        return self.scores.figures(means)

    def compared(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        step: Step,
        methods: Mapping[str, TokenDistillation],
        *,
        temperature: float = 1.0,
    ) -> Compared:
        """Score a batch, and compare student and teacher at every position.

        Args:
            model: The student.
            batch: A batch from the collator.
            step: The state of training.
            methods: What is computed at each position, by name.
            temperature: Divides the logits of both.

        Raises:
            ValueError: If the student predicts at other positions than the teacher.
        """
        arguments = self.scores.rows.forward_arguments(batch)
        targets = self.teacher.targets(model, arguments)
        groups = groups_of(targets.counts)
        labels = labels_of(model, arguments, len(groups))
        statistics = {
            name: PositionComparison(method, targets, labels, groups, temperature) for name, method in methods.items()
        }
        scores, gold = self.scores.scored(model, batch, step, ScoreRequest(statistics=statistics))
        positions = scores.positions
        if positions is None or positions.statistics is None:
            raise ValueError("the student does not say where it predicts")
        counts = positions.mask.sum(1)
        if not torch.equal(counts, targets.counts.to(counts)):
            raise ValueError(_other_positions(len(groups), int(counts.sum())))
        return Compared(scores, gold, positions.statistics, positions.mask)


@dataclass(frozen=True)
class PositionComparison:
    """The number of each position, computed from the student's logits a few rows at a time.

    Args:
        method: What is computed, without schedules.
        targets: What the teacher says.
        labels: Target token of each position, `NO_LABEL` where there is none, shape (N,).
        groups: Positions with the same number may be compared with each other, shape (N,).
        temperature: Divides the logits of both.
    """

    method: TokenDistillation
    targets: TeacherTargets
    labels: Tensor
    groups: Tensor
    temperature: float

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return D of each row, shape (R,)."""
        if len(rows) and int(rows[-1]) >= len(self.groups):
            raise ValueError(_other_positions(len(self.groups)))
        pair = self.targets.pair(logits, rows, self.labels[rows], self.groups[rows], temperature=self.temperature)
        return position_values(self.method, pair)


def groups_of(counts: Tensor) -> Tensor:
    """Return the number of each position's group: blocks of a sequence, whatever rows are computed together.

    Args:
        counts: Positions of each sequence, shape (B,).

    Example:
        >>> groups_of(torch.tensor([2, 65, 1])).bincount()
        tensor([ 2, 64,  1,  1])
    """
    owners = torch.repeat_interleave(counts)
    places = torch.arange(len(owners), device=counts.device) - (counts.cumsum(0) - counts)[owners]
    blocks = (counts + BLOCK - 1) // BLOCK
    return (blocks.cumsum(0) - blocks)[owners] + places // BLOCK


def _other_positions(teacher: int, student: int | None = None) -> str:
    own = "more" if student is None else f"{student:,}"
    return (
        f"teacher and student must predict at the same positions; in this batch the teacher has {teacher:,} and the "
        f"student {own}. An autoregressive teacher goes with models of target tokens, a CTC teacher with CTC models "
        "that have as many frames; otherwise train on the teacher's outputs (`sharpseq distill`)"
    )
