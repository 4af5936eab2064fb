"""Which examples share a batch in training and in evaluation, the same number of batches for every process."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.data import EncodedExample, TokenBudgetBatchSampler
from sharpseq.data.token_budget import side_lengths
from sharpseq.training.arguments import SequenceTrainingArguments


def training_batches(
    examples: Sequence[EncodedExample], arguments: SequenceTrainingArguments, *, in_one_row: bool = False
) -> TokenBudgetBatchSampler:
    """Return shuffled batches within the token budget, or of ``per_device_train_batch_size`` sentences without one.

    accelerate would make up batches of sentences by repeating examples, or leave a process without its last batch and
    the others waiting for it.

    Args:
        examples: The training examples; without a token budget, anything with a length.
        arguments: Budget, seed and number of processes.
        in_one_row: Whether source and target make one row, as for causal language models.
    """
    if arguments.max_tokens is None:
        # An example counts as one, whatever its length.
        sources, targets = [1] * len(examples), [1] * len(examples)
        max_tokens = arguments.per_device_train_batch_size
    else:
        sources, targets = side_lengths(examples, in_one_row=in_one_row)
        max_tokens = arguments.max_tokens
    return TokenBudgetBatchSampler(
        sources,
        targets,
        max_tokens=max_tokens,
        seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
        num_replicas_multiple=arguments.world_size,
    )


def evaluation_batches(
    examples: Sequence[EncodedExample], arguments: SequenceTrainingArguments, *, in_one_row: bool = False
) -> TokenBudgetBatchSampler:
    """Return batches within ``eval_max_tokens``, the longest examples first; see `training_batches`."""
    sources, targets = side_lengths(examples, in_one_row=in_one_row)
    return TokenBudgetBatchSampler(
        sources,
        targets,
        max_tokens=arguments.eval_max_tokens,
        shuffle=False,
        num_replicas_multiple=arguments.world_size,
    )
