"""Distillation: a student follows a teacher's distribution at each position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from torch import nn

from sharpseq.declarations import Declaration, Method, Number, Setting, at, value_at
from sharpseq.divergences import KL
from sharpseq.objectives import OBJECTIVES, MaximumLikelihood, Objective
from sharpseq.objectives.distillation import TOKEN_DISTILLATIONS, TokenDistillation
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.distillation.teacher_loss import TeacherLoss
from sharpseq.training.distillation.teachers import Teacher
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
        return DistillationLoss(teacher, ScoreLoss(self.gold, **scoring), self)


@dataclass(frozen=True, eq=False)
class DistillationLoss(TeacherLoss):
    """The loss of `Distillation`.

    Logged in training and as ``eval_…``: ``divergence``, the mean over positions, in the unit of the divergence.

    Args:
        settings: Its parameters.
    """

    settings: Distillation

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
        methods = {_NAME: settings.divergence}
        compared = self.compared(model, batch, step, methods, temperature=settings.temperature)
        gold, totals = compared.gold, compared.values[_NAME].sum(1)
        losses = totals / compared.counts.clamp(min=1)
        if settings.gold_weight:
            losses = (1 - settings.gold_weight) * losses + settings.gold_weight * gold.losses
        found = {_NAME: Statistic(totals.detach(), compared.counts)}
        possible = gold.is_possible if settings.gold_weight else None
        return replace(gold, losses=losses, weights=None, statistics={**gold.statistics, **found}, is_possible=possible)
