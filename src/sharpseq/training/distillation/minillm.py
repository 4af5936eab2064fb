"""MiniLLM: reverse KL of whole sequences, on sequences that the student writes with some help of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.divergences import ReverseKL
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.distillation import DistributionPair, TokenDistillation
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.distillation.teacher_loss import TeacherLoss
from sharpseq.training.distillation.teachers import ModelTeacher, Teacher, mixed_with
from sharpseq.training.loss import LossOutput, Statistic, Step
from sharpseq.training.score_loss import ScoreLoss


@dataclass(frozen=True)
class MiniLlm(Method):
    r"""Minimise :math:`\mathrm{KL}(q\|p)` of student q and teacher p between whole sequences.

    Its gradient is :math:`\mathbb E_{y \sim q} \sum_t [\nabla \mathrm{KL}(q_t\|p_t) - R_{t+1} \nabla \log q(y_t)]` with
    :math:`R_{t+1} = \sum_{t' > t} \log \frac{p(y_{t'})}{q(y_{t'})}`: the first term is exact at each position, the
    second says what a token does to the rest. Three changes make it calm. Sequences come from
    :math:`\tilde p = \alpha p + (1 - \alpha) q`, and each position gets the weight :math:`q(y_t)/\tilde p(y_t)`; with
    ``normalise_length`` R is divided by the number of its terms, so that long outputs are not punished for their
    length. Samples are made for every update, so there is no ratio to a former student to be clipped.

    Args:
        teacher_mixing: α, in [0, 1): the teacher's share in each step of sampling. Above 0 it needs the teacher in
            memory and runs it once a token.
        normalise_length: Whether R is a mean.

    References:
        Gu et al. 2024, "MiniLLM: knowledge distillation of large language models", equations 4 to 7.
    """

    teacher_mixing: Annotated[float, Setting("Share of the teacher in each step of sampling.", ge=0, lt=1)] = 0.2
    normalise_length: Annotated[bool, Setting("Whether the reward of the rest is a mean over its tokens.")] = True

    declaration = Declaration(
        "minillm",
        "reverse KL of whole sequences on own samples; needs a stage with a `teacher` (#103)",
        "Gu et al. 2024",
    )

    def loss(self, teacher: Teacher, **scoring: Any) -> MiniLlmLoss:
        """Return the loss that trains a student.

        Args:
            teacher: The teacher, in memory: a store knows the corpus only.
            scoring: Passed to `ScoreLoss`.

        Raises:
            ValueError: If the teacher is not a model and is to help in sampling.
        """
        if self.teacher_mixing and not isinstance(teacher, ModelTeacher):
            raise ValueError("`teacher_mixing` must be 0: only a model beside the student can help it to sample")
        return MiniLlmLoss(teacher, ScoreLoss(MaximumLikelihood(), **scoring), self)


@dataclass(frozen=True, eq=False)
class MiniLlmLoss(TeacherLoss):
    """The loss of `MiniLlm`.

    Logged: ``reverse_kl``, the mean over positions in nats; in validation it is that on the gold targets, which is also
    the loss there.

    Args:
        settings: Its parameters.
    """

    settings: MiniLlm

    def prepare(self, model: nn.Module, batch: dict[str, Any], step: Step) -> dict[str, Any]:
        """Let the student write the targets."""
        mixing = self.settings.teacher_mixing
        helper = mixed_with(self.teacher, mixing) if mixing and isinstance(self.teacher, ModelTeacher) else None
        seed = f"{step.seed} update {step.update}"
        return with_own_samples(model, batch, share=1.0, temperature=1.0, seed=seed, helper=helper)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Compare student and teacher, at each position and after it."""
        methods: dict[str, TokenDistillation] = {"reverse_kl": ReverseKL()}
        if step.is_training:
            methods["label_target"] = _label_target
        compared = self.compared(model, batch, step, methods)
        gold, kl, counts = compared.gold, compared.values["reverse_kl"], compared.counts
        found = {"reverse_kl": Statistic(kl.detach().sum(1), counts)}
        losses = kl.sum(1) / counts.clamp(min=1)
        if step.is_training:
            losses = sequence_reverse_kl(
                kl,
                compared.scores.token_scores().log_probs,
                compared.values["label_target"].detach(),
                compared.mask,
                teacher_mixing=self.settings.teacher_mixing,
                normalise_length=self.settings.normalise_length,
            )
        return replace(gold, losses=losses, weights=None, statistics={**gold.statistics, **found}, is_possible=None)


def sequence_reverse_kl(
    kl: Tensor,
    log_probs: Tensor,
    target_log_probs: Tensor,
    mask: Tensor,
    *,
    teacher_mixing: float,
    normalise_length: bool,
) -> Tensor:
    """Return a loss whose gradient is that of `MiniLlm`, divided by the length, shape (B,).

    Args:
        kl: KL(student ‖ teacher) at each position, in nats, shape (B, T).
        log_probs: The student's log-probability of each token, shape (B, T).
        target_log_probs: The teacher's, shape (B, T), without gradient.
        mask: True for tokens, shape (B, T).
        teacher_mixing: The teacher's share in what the tokens were sampled from.
        normalise_length: Whether the reward of the rest is a mean.
    """
    with torch.no_grad():
        rewards = (target_log_probs - log_probs) * mask
        rest = rewards.flip(1).cumsum(1).flip(1) - rewards
        if normalise_length:
            num_left = mask.long().flip(1).cumsum(1).flip(1) - mask.long()
            rest = rest / num_left.clamp(min=1)
        weights = torch.ones_like(rewards)
        if teacher_mixing:
            # q / (α p + (1 − α) q)
            weights = 1 / (teacher_mixing * rewards.exp() + (1 - teacher_mixing))
    terms = weights * (kl - rest * log_probs) * mask
    return terms.sum(1) / mask.sum(1).clamp(min=1)


def _label_target(pair: DistributionPair) -> Tensor:
    return pair.label_target
