"""The loss of an update, shared by the trainers of all libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback

from sharpseq.errors import UserError
from sharpseq.training.loss import Loss, LossOutput, PreparesBatches, Step
from sharpseq.training.progress import StepClock, StepStatistics
from sharpseq.training.reduction import Window, reduce_losses, sequence_shares
from sharpseq.training.running_means import RunningMeans


class LossTrainer(Trainer):
    """The part of a trainer that turns a `Loss` into the loss of an update; mix it in before another trainer.

    The loss is reduced once, over the whole accumulation window and all processes. The training arguments must have
    ``reduction`` and ``divide_by_mean_weight``.

    Args:
        args: Passed to the trainer that comes next.
        loss: What is trained on.
        kwargs: Passed to the trainer that comes next.
    """

    args: Any
    model: PreTrainedModel
    loss: Loss

    loss_is_scaled_for_ga = True
    skips_empty_sequences = False
    """Whether a sequence without a single scored token is left out of the count of sequences."""

    def __init__(self, *args: Any, loss: Loss, **kwargs: Any) -> None:
        self.loss = loss
        self.statistics = StepStatistics()
        self.means = RunningMeans()
        self.window = Window(0, 0)
        self._num_without_target = 0
        self._num_target_tokens: float | None = None
        super().__init__(*args, **kwargs)
        if self.args.divide_by_mean_weight and not loss.has_weights:
            raise ValueError("`divide_by_mean_weight` must be false: the loss gives its sequences no weights")
        self.model_accepts_loss_kwargs = False
        if not hasattr(Trainer, "loss_is_scaled_for_ga"):
            # transformers before 5.19 divides the loss again unless it is given a loss function.
            self.compute_loss_func = self.compute_loss
        self.add_callback(StepClock(self.statistics))
        self.add_callback(_TargetCheck(self))

    # The window

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Collect the micro-batches of an update and count what the loss is divided by."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if isinstance(self.loss, PreparesBatches):
            step = self._step(is_training=True)
            batches = [self.loss.prepare(self.model, self._prepare_inputs(batch), step) for batch in batches]
        self.window = self._window(batches)
        return batches, None

    def _window(self, batches: Sequence[dict[str, Any]]) -> Window:
        totals = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        for batch in batches:
            num_tokens = self.loss.count_tokens(self.model, batch)
            counted = self._counted(num_tokens)
            totals += torch.stack([counted.sum(), num_tokens.sum(), (counted & (num_tokens == 0)).sum()]).to(totals)
        num_sequences, num_tokens_in_window, num_without_target = self._sum_over_processes(totals).tolist()
        self._num_without_target += int(num_without_target)
        if batches:
            self._num_target_tokens = (self._num_target_tokens or 0) + num_tokens_in_window
        window = Window(num_sequences, num_tokens_in_window)
        if self.args.divide_by_mean_weight and batches:
            window = Window(num_sequences, num_tokens_in_window, self._mean_weight(batches))
        return window

    def _mean_weight(self, batches: Sequence[dict[str, Any]]) -> float:
        """Return the mean weight f'(g) over the window, from one extra forward pass with the same dropout."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with torch.random.fork_rng(enabled=True), torch.no_grad(), self.compute_loss_context_manager():
            self.model_wrapped.train()
            for batch in batches:
                step = self._step(is_training=True)
                output = self.loss_output(self.model_wrapped, self._prepare_inputs(batch), step)
                shares = self._shares(output.num_tokens)
                weights = torch.zeros_like(shares) if output.weights is None else output.weights
                sums += torch.stack([(shares * weights).sum(), shares.sum()])
        weighted, total = self._sum_over_processes(sums).tolist()
        return float(weighted / total) if total else 1.0

    def _counted(self, num_tokens: Tensor) -> Tensor:
        return num_tokens > 0 if self.skips_empty_sequences else torch.ones_like(num_tokens, dtype=torch.bool)

    def _shares(self, num_tokens: Tensor) -> Tensor:
        return sequence_shares(num_tokens, reduction=self.args.reduction) * self._counted(num_tokens)

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        return self._gather(values[None]).sum(0)

    def _gather(self, row: Tensor) -> Tensor:
        """Stack the rows (1, N) of all processes into (P, N)."""
        if self.args.world_size == 1:
            return row
        rows: Tensor = self.accelerator.gather(row)
        return rows

    # The loss

    def loss_output(self, model: nn.Module, batch: Mapping[str, Any], step: Step) -> LossOutput:
        """Return the loss's output for a batch, in the precision of training."""
        with self.accelerator.autocast():
            return self.loss(model, batch, step)

    def _step(self, *, is_training: bool) -> Step:
        made = self.state.global_step
        progress = float(made / max(self.state.max_steps, 1)) if is_training else 1.0
        return Step(progress=progress, update=made, seed=self.args.seed, is_training=is_training)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the update."""
        output = self.loss_output(model, inputs, self._step(is_training=True))
        loss = self._reduced(output)
        if not torch.isfinite(loss):
            raise UserError(self._describe_non_finite(output.losses, inputs))
        counted = self._counted(output.num_tokens)
        weights = output.losses.detach()[:0] if output.weights is None else output.weights[counted]
        self.statistics.add(weights=weights, num_tokens=int(output.num_tokens.sum()))
        self.means.add(output.statistics)
        # Data parallelism averages gradients over processes; the window already counts them all.
        loss = loss * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _reduced(self, output: LossOutput) -> Tensor:
        counted, num_tokens = self._counted(output.num_tokens), output.num_tokens
        parts = {"reduction": self.args.reduction, "window": self.window}
        loss = reduce_losses(output.losses[counted], num_tokens[counted], **parts) / self.window.weight_mean
        for term in output.terms.values():
            if term.reduction is None:
                share = reduce_losses(term.values, num_tokens, **parts)
            else:
                share = reduce_losses(
                    term.values[counted], num_tokens[counted], reduction=term.reduction, window=self.window
                )
            loss = loss + term.weight * share
        return loss

    def _describe_non_finite(self, losses: Tensor, inputs: Mapping[str, Any]) -> str:
        where = f"step {self.state.global_step + 1}"
        if "example_ids" not in inputs:
            return f"the loss is not finite at {where}; lower the learning rate or check the data"
        ids = inputs["example_ids"]
        bad = ids[~torch.isfinite(losses)].tolist()
        which = f"training examples {bad[:10]}" if bad else f"the batch of training examples {ids.tolist()[:10]}"
        return (
            f"the loss is not finite at {where}, in {which} (counted from 0); check these lines, or lower "
            "the learning rate. Nothing of this step was applied; the last checkpoint is whole"
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss together with the statistics of the steps since the last log.

        Sequences without a single target token are counted as ``without_target``, if there are any.
        """
        if "loss" in logs:
            found = self.loss.figures(self.means.pop(self._sum_over_processes))
            logs = {**logs, **self.statistics.pop(self._gather), **found}
            if self._num_without_target:
                logs["without_target"] = self._num_without_target
                self._num_without_target = 0
        super().log(logs, start_time)

    def check_any_target(self) -> None:
        """Check that something was learned from.

        Raises:
            UserError: If all updates so far had no target token: their loss was 0, whatever the model.
        """
        if self._num_target_tokens == 0:
            raise UserError(
                "no training example so far has a target token to learn from; give examples with targets, and raise "
                "the maximum length if prompts alone fill it"
            )


class _TargetCheck(TrainerCallback):
    """Stops a training on data without a single target token, after the first pass over them."""

    def __init__(self, trainer: LossTrainer) -> None:
        self.trainer = trainer

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.check_any_target()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.check_any_target()
