"""Which examples share a batch in training and in evaluation, the same number of batches for every process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpseq.data import TokenBudgetBatchSampler
from sharpseq.data.token_budget import side_lengths
from sharpseq.training.arguments import SequenceTrainingArguments


def training_batches(
    examples: Sequence[Any], arguments: SequenceTrainingArguments, *, in_one_row: bool = False
) -> TokenBudgetBatchSampler:
    """Return shuffled batches within the token budget, or of ``per_device_train_batch_size`` examples without one.

    accelerate would fill up batches by repeating examples, or leave one process without its last batch while the
    others wait for it.

    Args:
        examples: The training examples; without a token budget, anything with a length.
        arguments: Budget, seed and number of processes.
        in_one_row: Whether source and target make one row, as for causal language models.
    """
    return _batches(
        examples,
        budget=arguments.per_device_train_batch_tokens,
        batch_size=arguments.per_device_train_batch_size,
        in_one_row=in_one_row,
        seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
        num_replicas_multiple=arguments.world_size,
    )


def evaluation_batches(
    examples: Sequence[Any], arguments: SequenceTrainingArguments, *, in_one_row: bool = False
) -> TokenBudgetBatchSampler:
    """Return batches for validation, the longest first if there is a token budget; see `training_batches`."""
    return _batches(
        examples,
        budget=arguments.per_device_eval_batch_tokens,
        batch_size=arguments.per_device_eval_batch_size,
        in_one_row=in_one_row,
        shuffle=False,
        num_replicas_multiple=arguments.world_size,
    )


def _batches(
    examples: Sequence[Any], *, budget: int | None, batch_size: int, in_one_row: bool, **order: Any
) -> TokenBudgetBatchSampler:
    if len(examples) < order["num_replicas_multiple"]:
        raise ValueError("`examples` must be at least as many as processes: repeat them with `for_every_process`")
    if budget is None:
        # An example counts as one, whatever its length.
        ones = [1] * len(examples)
        return TokenBudgetBatchSampler(ones, ones, batch_tokens=batch_size, **order)
    return TokenBudgetBatchSampler(*side_lengths(examples, in_one_row=in_one_row), batch_tokens=budget, **order)


def for_every_process(examples: Sequence[Any], arguments: SequenceTrainingArguments) -> Sequence[Any]:
    """Return examples, each as often as the others, so that there is at least one for every process.

    Means do not change by that.
    """
    missing = len(examples) < arguments.world_size
    return [*examples] * arguments.world_size if missing and len(examples) else examples
