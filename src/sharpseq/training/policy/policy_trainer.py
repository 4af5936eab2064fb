"""The trainer of a policy."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput

from sharpseq.evaluation.rewards import Reward, metric_reward
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.policy.policy import Policy
from sharpseq.training.policy.policy_loss import PolicyLoss
from sharpseq.training.policy.policy_state import PolicyState
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
        features = {
            name: partial(rewards_of, metric_reward(name), tokenizer=processing_class)
            for name in getattr(chosen.objective, "moments", {})
        }
        loss = chosen.loss(reference, rate, features=features)
        super().__init__(model, args, loss=loss, processing_class=processing_class, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Collect the micro-batches of an update and draw their samples, in the precision of training."""
        with self.accelerator.autocast(), self.compute_loss_context_manager():
            found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.loss.end_window(self.model, found[0], self._sum_over_processes)
        return found

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; before the first update, find the weights of features where the objective has moments."""
        if self.loss.features:
            if not isinstance(self.train_dataset, Sequence):
                raise ValueError("`train_dataset` must be held in memory: the weights of features are found on it")
            model: Any = self.model
            self.loss.fit(model.to(self.args.device), self.train_dataset, seed=self.args.seed)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    # Checkpoints

    def _state_file(self, folder: str) -> Path:
        return Path(folder) / f"policy_state_{self.args.process_index}.pt"

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.loss.state.save(self._state_file(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        file = self._state_file(resume_from_checkpoint)
        if file.exists():
            self.loss.state = PolicyState.load(file)
