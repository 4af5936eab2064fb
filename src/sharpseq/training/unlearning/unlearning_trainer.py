"""The trainer that makes a model forget."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from sharpseq.data import EncodedExample
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.distillation.teachers import AdapterBaseTeacher, ModelTeacher, Teacher
from sharpseq.training.kl_penalty import KlPenalty
from sharpseq.training.trainer import SequenceTrainer
from sharpseq.training.unlearning.answer_pool import DEFAULT_TEMPLATES, AnswerPool, encode_templates
from sharpseq.training.unlearning.unlearning_loss import Unlearning


class UnlearningTrainer(SequenceTrainer):
    """`SequenceTrainer` of a model that is to forget the answers of its training examples.

    ``train_dataset`` holds the examples to forget, ``eval_dataset`` any others, whose likelihood is validated.

    Args:
        model: The model that knows them.
        args: Training arguments.
        train_dataset: The examples to forget.
        unlearning: What is minimised; FLAT with the KL divergence by default.
        templates: Template answers: texts, which need ``processing_class``, or token ids as targets have them.
        retained: Examples whose answers are to stay, where ``unlearning`` reads some.
        reference: The model before unlearning, where ``unlearning`` reads it: a model or `Teacher`. By default it is
            the model without its adapters if these have no effect yet, otherwise a frozen copy.
        processing_class: The tokenizer.
        kwargs: Passed to `SequenceTrainer`.

    Raises:
        UserError: If there is nothing to forget, or templates or retained examples do not fit; see `AnswerPool.check`.
        ValueError: If templates are texts and there is no tokenizer.

    Example:
        >>> from sharpseq import SequenceTrainingArguments, UnlearningTrainer
        >>> trainer = UnlearningTrainer(
        ...     model, SequenceTrainingArguments("out"), train_dataset=to_forget, processing_class=tokenizer
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: SequenceTrainingArguments,
        *,
        train_dataset: Sequence[EncodedExample],
        unlearning: Unlearning | None = None,
        templates: Sequence[str] | Sequence[Sequence[int]] = DEFAULT_TEMPLATES,
        retained: Sequence[EncodedExample] = (),
        reference: PreTrainedModel | Teacher | None = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        chosen = unlearning or Unlearning()
        pool = AnswerPool(
            templates=_token_ids(templates, processing_class, model) if chosen.method.reads_template else (),
            retained=retained,
        )
        pool.check(train_dataset, reads_template=chosen.method.reads_template, reads_retained=chosen.reads_retained)
        loss = chosen.loss(
            pool,
            _reference(reference, model) if chosen.reads_reference else None,
            kl=KlPenalty.of(args),
            length_weight=args.length_weight,
        )
        kwargs["processing_class"] = processing_class
        super().__init__(model, args, loss=loss, train_dataset=train_dataset, **kwargs)


def _token_ids(templates: Sequence[Any], tokenizer: Any, model: PreTrainedModel) -> list[list[int]]:
    if not any(isinstance(template, str) for template in templates):
        return [list(template) for template in templates]
    if tokenizer is None:
        raise ValueError("`processing_class` must be the tokenizer where `templates` are texts")
    return encode_templates(templates, tokenizer, append_eos_to_target=not hasattr(model, "scores_labels"))


def _reference(given: PreTrainedModel | Teacher | None, model: Any) -> Teacher:
    if given is not None:
        chosen: Any = given if hasattr(given, "targets") else ModelTeacher(given)
        return chosen  # type: ignore[no-any-return]
    return AdapterBaseTeacher() if _has_fresh_adapters(model) else ModelTeacher(copy.deepcopy(model))


def _has_fresh_adapters(model: Any) -> bool:
    """Return whether a model has adapters that change nothing yet, so that without them it is what it starts from."""
    if not hasattr(model, "disable_adapter"):
        return False
    ups = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    return bool(ups) and not any(bool(torch.any(weight != 0)) for weight in ups)
