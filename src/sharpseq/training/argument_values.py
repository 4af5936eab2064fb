"""Checks of training arguments: transformers checks few of them before it uses them, perhaps an hour later."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, get_args, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import Trainer, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks

from sharpseq.errors import nearest
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.glancing_ratio import glancing_ratio
from sharpseq.training.kl_penalty import ARGUMENTS, kl_argument

_Range = tuple[Callable[[float], bool], str]
_POSITIVE: _Range = (lambda value: value > 0, "more than 0")
_NOT_NEGATIVE: _Range = (lambda value: value >= 0, "at least 0")
_COUNT: _Range = (lambda value: value >= 1, "at least 1")
_DECAY: _Range = (lambda value: 0 <= value < 1, "in [0, 1)")

_RANGES: dict[str, _Range] = {
    "learning_rate": _POSITIVE,
    "num_train_epochs": _POSITIVE,
    "max_steps": (lambda value: value == -1 or value >= 1, "at least 1, or -1 for no limit"),
    "per_device_train_batch_tokens": _COUNT,
    "per_device_eval_batch_tokens": _COUNT,
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "adam_beta1": _DECAY,
    "adam_beta2": _DECAY,
    "adam_epsilon": _NOT_NEGATIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "length_weight": _NOT_NEGATIVE,
    "ema_decay": _DECAY,
    "logging_steps": _POSITIVE,
    "eval_steps": _POSITIVE,
    "save_steps": _POSITIVE,
    "save_total_limit": _COUNT,
    "dataloader_num_workers": _NOT_NEGATIVE,
    "seed": _NOT_NEGATIVE,
    "data_seed": _NOT_NEGATIVE,
    "label_smoothing_factor": (lambda value: value == 0, "0: smoothing is `label_smoothing` of the objective"),
}


BELONGS_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("output_dir", "resume_from_checkpoint", "load_best_model_at_end"), "is set by the run"),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better"), "follows from `validation.metric`; set that"),
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push"),
        "is not what a run does: `sharpseq export RUN FOLDER --to hugging_face` makes a folder to upload",
    ),
    **dict.fromkeys(
        ("length_column_name", "auto_find_batch_size", "train_sampling_strategy"),
        "has nothing to do: batches have similar lengths within `per_device_train_batch_tokens`",
    ),
    **dict.fromkeys(
        (
            "batch_eval_metrics",
            "eval_do_concat_batches",
            "eval_accumulation_steps",
            "include_for_metrics",
            "label_names",
            "prediction_loss_only",
        ),
        "has nothing to do: validation keeps no predictions",
    ),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "remove_unused_columns"), "is decided by the recipe"),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config"), "belongs to `sharpseq train --accelerate FILE`"),
}
"""Training arguments that a recipe may not give, and why."""


def checked_value(name: str, value: Any) -> Any:
    """Return the value of a training argument in the argument's type.

    Args:
        name: Name of a field of `SequenceTrainingArguments`.
        value: The value in the recipe.

    Raises:
        ValueError: If the value is of another type or out of range.

    Example:
        >>> checked_value("learning_rate", 1), checked_value("eval_strategy", "epoch")
        (1.0, 'epoch')
        >>> checked_value("lr_scheduler_type", "linaer")
        Traceback (most recent call last):
            ...
        ValueError: `lr_scheduler_type` must not be 'linaer'; did you mean `linear`?
    """
    if name in ARGUMENTS:
        kl_argument(name, value)
        return value
    if name == "glancing":
        glancing_ratio(value)
        return value
    hint = _hints()[name]
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            # YAML reads a bare `no` as false.
            chosen = "no" if value is False else value
            choices = [member.value for member in kind]
            if chosen not in choices:
                raise ValueError(f"`{name}` must not be {value!r}; {nearest(str(value), choices)}")
            return chosen
    try:
        checked: Any = TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"`{name}`: {message[0].lower()}{message[1:]}; got {value!r}") from error
    if isinstance(checked, float) and not math.isfinite(checked):
        raise ValueError(f"`{name}` must be finite; got {value!r}")
    if name in _RANGES and checked is not None:
        fits, words = _RANGES[name]
        if not fits(checked):
            raise ValueError(f"`{name}` must be {words}; got {value!r}")
    return checked


def try_arguments(arguments: SequenceTrainingArguments) -> None:
    """Build what depends only on the arguments, so that mistakes are reported before data are read.

    Raises:
        ValueError: If the optimiser, the schedule or a reporter cannot be built, or the device lacks a precision.
    """
    if arguments.fp16 and arguments.use_cpu:
        raise ValueError("`fp16` needs a GPU; use `bf16: true`")
    try:
        if arguments.optim_target_modules is None:
            kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
            optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **options)
            schedule: Any = arguments.lr_scheduler_kwargs or {}
            get_scheduler(
                arguments.lr_scheduler_type,
                optimizer,
                num_warmup_steps=0,
                num_training_steps=1000,
                scheduler_specific_kwargs=schedule,
            )
        for reporter in get_reporting_integration_callbacks(arguments.report_to):
            reporter()
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())) from error


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(SequenceTrainingArguments)
