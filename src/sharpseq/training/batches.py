"""Which examples share a batch in training and in evaluation, the same number of batches for every process."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.data import EncodedExample, TokenBudgetBatchSampler
from sharpseq.training.arguments import SequenceTrainingArguments


def training_batches(
    examples: Sequence[EncodedExample], arguments: SequenceTrainingArguments
) -> TokenBudgetBatchSampler:
    """Return shuffled batches within the token budget, or of ``per_device_train_batch_size`` sentences without one.

    accelerate would make up batches of sentences by repeating examples, or leave a process without its last batch and
    the others waiting for it.

    Args:
        examples: The training examples; without a token budget, anything with a length.
        arguments: Budget, seed and number of processes.
    """
    if arguments.max_tokens is None:
        # An example counts as one, whatever its length.
        sources, targets = [1] * len(examples), [1] * len(examples)
        max_tokens = arguments.per_device_train_batch_size
    else:
        sources, targets = _lengths(examples)
        max_tokens = arguments.max_tokens
    return TokenBudgetBatchSampler(
        sources,
        targets,
        max_tokens=max_tokens,
        seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
        num_replicas_multiple=arguments.world_size,
    )


def evaluation_batches(
    examples: Sequence[EncodedExample], arguments: SequenceTrainingArguments
) -> TokenBudgetBatchSampler:
    """Return batches within ``eval_max_tokens``, the longest examples first."""
    sources, targets = _lengths(examples)
    return TokenBudgetBatchSampler(
        sources,
        targets,
        max_tokens=arguments.eval_max_tokens,
        shuffle=False,
        num_replicas_multiple=arguments.world_size,
    )


def _lengths(examples: Sequence[EncodedExample]) -> tuple[list[int], list[int]]:
    return [len(example.input_ids) for example in examples], [len(example.labels) for example in examples]
