"""The trainer of a student."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.distillation.distillation_loss import Distillation
from sharpseq.training.distillation.minillm import MiniLlm
from sharpseq.training.distillation.teachers import ModelTeacher, Teacher, check_vocabularies
from sharpseq.training.kl_penalty import KlPenalty
from sharpseq.training.loss import Loss
from sharpseq.training.trainer import SequenceTrainer


class DistillationTrainer(SequenceTrainer):
    """`SequenceTrainer` of a student that follows a teacher.

    Args:
        model: The student.
        args: Training arguments.
        teacher: A model, which is frozen; or any `Teacher`, such as stored outputs.
        distillation: What is minimised; forward KL by default.
        kwargs: Passed to `SequenceTrainer`.

    Raises:
        UserError: If teacher and student have vocabularies of different sizes.

    Example:
        >>> from sharpseq import DistillationTrainer, SequenceTrainingArguments
        >>> trainer = DistillationTrainer(
        ...     student, SequenceTrainingArguments("out"), teacher=teacher, train_dataset=examples
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: SequenceTrainingArguments,
        *,
        teacher: PreTrainedModel | Teacher,
        distillation: Distillation | MiniLlm | None = None,
        **kwargs: Any,
    ) -> None:
        guide: Any = teacher if hasattr(teacher, "targets") else ModelTeacher(teacher)
        check_vocabularies(guide, model)
        chosen = distillation or Distillation()
        loss: Loss = chosen.loss(guide, kl=KlPenalty.of(args), length_weight=args.length_weight)
        super().__init__(model, args, loss=loss, **kwargs)
