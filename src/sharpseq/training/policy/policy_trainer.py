"""The trainer of a policy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from sharpseq.evaluation.rewards import Reward, metric_reward
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.policy.policy_loss import Policy, PolicyLoss
from sharpseq.training.policy.sampling import check_samples
from sharpseq.training.policy.scored_texts import rewards_of
from sharpseq.training.trainer import SequenceTrainer


class PolicyTrainer(SequenceTrainer):
    """`SequenceTrainer` of a model that learns from its own samples.

    Args:
        model: A CTC or Vanilla NAT model, or a causal or seq2seq one.
        args: Training arguments. ``reduction: sequence_mean``, the default, leaves the gradient of a policy unbiased.
        processing_class: The tokenizer, which makes texts of samples.
        reward: A function of texts; by default the metric that ``policy`` names.
        policy: What is minimised and how samples are drawn; the policy gradient by default.
        reference: A frozen model to stay near to; by default a copy of ``model``, or ``model`` without its adapters.
        kwargs: Passed to `SequenceTrainer`.

    Raises:
        ValueError: If the model cannot be sampled.
        UserError: During training, when the reward fails; the message has the sample.

    Example:
        >>> def brevity(*, completions, **_):
        ...     return [-len(text) for text in completions]
        >>> from sharpseq import PolicyTrainer, SequenceTrainingArguments
        >>> trainer = PolicyTrainer(
        ...     model,
        ...     SequenceTrainingArguments("out"),
        ...     processing_class=tokenizer,
        ...     reward=brevity,
        ...     train_dataset=examples,
        ... )  # doctest: +SKIP
    """

    loss: PolicyLoss

    def __init__(
        self,
        model: PreTrainedModel,
        args: SequenceTrainingArguments,
        *,
        processing_class: Any,
        reward: Reward | None = None,
        policy: Policy | None = None,
        reference: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        check_samples(model)
        if reference is None and not hasattr(model, "disable_adapter"):
            reference = copy.deepcopy(model)
        chosen = policy or Policy()
        rate = partial(rewards_of, reward or metric_reward(chosen.reward), tokenizer=processing_class)
        loss = chosen.loss(reference, rate)
        super().__init__(model, args, loss=loss, processing_class=processing_class, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Collect the micro-batches of an update and draw their samples, in the precision of training."""
        with self.accelerator.autocast(), self.compute_loss_context_manager():
            return super().get_batch_samples(epoch_iterator, num_batches, device)
