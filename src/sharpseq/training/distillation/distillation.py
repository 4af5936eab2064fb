"""Distillation: a student follows a teacher's distribution at each position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from sharpseq.declarations import Declaration, Method, Number, Setting, at, value_at
from sharpseq.divergences import KL
from sharpseq.objectives import OBJECTIVES, MaximumLikelihood, Objective
from sharpseq.objectives.distillation import TOKEN_DISTILLATIONS, TokenDistillation, position_values
from sharpseq.scoring import BLOCK, ScoreRequest, SequenceScores
from sharpseq.training.distillation.own_samples import with_own_samples
from sharpseq.training.distillation.targets import TeacherTargets
from sharpseq.training.distillation.teachers import Teacher, labels_of
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.score_loss import ScoreLoss

_NAME = "divergence"


@dataclass(frozen=True)
class Distillation(Method):
    r"""Follow a teacher's distribution at each position of the targets.

    The loss of a sequence with positions :math:`1 \dots P` is
    :math:`(1 - w) \frac1P \sum_t D(p_t, q_t) + w\,\ell(y)`, in which p is the teacher, q the student and
    :math:`\ell` an objective of the target itself. There is no factor :math:`\tau^2` for a temperature
    :math:`\tau`; the learning rate can make up for it.

    Args:
        divergence: D, any of the divergences and the other methods for one position.
        gold_weight: w, in [0, 1].
        gold: The objective :math:`\ell`.
        temperature: Divides the logits of both.
        own_samples: Share of the training examples whose target the student writes itself before it is compared with
            the teacher there (on-policy), in [0, 1]. The gold objective is then one of the sample and makes little
            sense: leave ``gold_weight`` at 0.
        sampling_temperature: Divides the student's logits while it writes; greater than 0.

    References:
        Hinton et al. 2015; Agarwal et al. 2024, "On-policy distillation of language models" (GKD).
    """

    divergence: Annotated[
        TokenDistillation, Setting("What is computed at each position.", methods=TOKEN_DISTILLATIONS)
    ] = field(default_factory=KL)
    gold_weight: Annotated[Number, Setting("Weight of the objective of the target itself.", ge=0, le=1)] = 0.0
    gold: Annotated[Objective, Setting("Objective of the target itself.", methods=OBJECTIVES)] = field(
        default_factory=MaximumLikelihood
    )
    temperature: Annotated[float, Setting("Divides the logits of teacher and student.", gt=0)] = 1.0
    own_samples: Annotated[
        Number, Setting("Share of the examples whose target the student samples itself.", ge=0, le=1)
    ] = 0.0
    sampling_temperature: Annotated[float, Setting("Divides the student's logits while it samples.", gt=0)] = 1.0

    declaration = Declaration(
        "distillation",
        "follows a teacher's distribution at each position; needs a stage with a `teacher`",
        "Hinton et al. 2015; Agarwal et al. 2024",
    )

    def loss(self, teacher: Teacher, **scoring: Any) -> DistillationLoss:
        """Return the loss that trains a student.

        Args:
            teacher: The teacher.
            scoring: Passed to `ScoreLoss`, such as the penalty of a latent variable.
        """
        return DistillationLoss(self, teacher, ScoreLoss(self.gold, **scoring))


@dataclass(frozen=True, eq=False)
class DistillationLoss:
    """The loss of `Distillation`.

    Logged in training and as ``eval_…``: ``divergence``, the mean over positions, in the unit of the divergence.

    Args:
        settings: Its parameters.
        teacher: The teacher.
        gold: The loss of the targets themselves, which also scores the student.
    """

    settings: Distillation
    teacher: Teacher
    gold: ScoreLoss

    has_weights: ClassVar[bool] = False

    def count_tokens(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return the number of scored tokens of each sequence, shape (B,)."""
        return self.gold.count_tokens(model, batch)

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Let the student write the targets of as many examples as ``own_samples`` says."""
        settings: Distillation = at(self.settings, step.progress)
        if not settings.own_samples:
            return batch
        return with_own_samples(
            model,
            batch,
            share=float(value_at(settings.own_samples, step.progress)),
            temperature=settings.sampling_temperature,
            seed=f"{step.seed} update {step.update}",
        )

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Compare student and teacher at every position."""
        settings: Distillation = at(self.settings, step.progress)
        arguments = self.gold.rows.forward_arguments(batch)
        targets = self.teacher.targets(model, arguments)
        labels = labels_of(model, arguments, int(targets.counts.sum()))
        compared = PositionComparison(settings.divergence, targets, labels, temperature=settings.temperature)
        scores, gold = self.gold.scored(model, batch, step, ScoreRequest(statistics={_NAME: compared}))
        values, mask = position_statistic(scores, targets, _NAME)
        totals, counts = values.sum(1), mask.sum(1)
        losses = totals / counts.clamp(min=1)
        if settings.gold_weight:
            losses = (1 - settings.gold_weight) * losses + settings.gold_weight * gold.losses
        found = {_NAME: Statistic(totals.detach(), counts)}
        possible = gold.is_possible if settings.gold_weight else None
        return replace(gold, losses=losses, weights=None, statistics={**gold.statistics, **found}, is_possible=possible)

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the means, with the number of latent dimensions in use where there is a latent."""
        return self.gold.figures(means)


@dataclass(frozen=True)
class PositionComparison:
    """The number of each position, computed from the student's logits a few rows at a time.

    Args:
        method: What is computed, without schedules.
        targets: What the teacher says.
        labels: Target token of each position, `NO_LABEL` where there is none, shape (N,).
        temperature: Divides the logits of both.
    """

    method: TokenDistillation
    targets: TeacherTargets
    labels: Tensor
    temperature: float = 1.0

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return D of each row, shape (R,)."""
        counts = self.targets.counts
        total = int(counts.sum())
        if len(rows) and int(rows[-1]) >= total:
            raise ValueError(_other_positions(total))
        starts = counts.cumsum(0) - counts
        owners = torch.repeat_interleave(counts)[rows]
        # Blocks of a sequence, so that what is compared does not depend on the rows that are computed together.
        blocks_before = ((counts + BLOCK - 1) // BLOCK).cumsum(0) - (counts + BLOCK - 1) // BLOCK
        groups = blocks_before[owners] + (rows - starts[owners]) // BLOCK
        pair = self.targets.pair(logits, rows, self.labels[rows], groups, temperature=self.temperature)
        return position_values(self.method, pair)


def position_statistic(scores: SequenceScores, targets: TeacherTargets, name: str) -> tuple[Tensor, Tensor]:
    """Return a statistic of the student's positions, and which positions count, shape (B, P) each.

    Raises:
        ValueError: If the student predicts at other positions than the teacher.
    """
    positions = scores.positions
    if positions is None or positions.statistics is None:
        raise ValueError("the student does not say where it predicts")
    counts = positions.mask.sum(1)
    if not torch.equal(counts, targets.counts.to(counts)):
        raise ValueError(_other_positions(int(targets.counts.sum()), int(counts.sum())))
    return positions.statistics[name], positions.mask


def _other_positions(teacher: int, student: int | None = None) -> str:
    own = "more" if student is None else f"{student:,}"
    return (
        f"teacher and student must predict at the same positions; in this batch the teacher has {teacher:,} and the "
        f"student {own}. An autoregressive teacher goes with models of target tokens, a CTC teacher with CTC models "
        "that have as many frames; otherwise train on the teacher's outputs (`sharpseq distill`)"
    )
