"""The loss of an update, which every trainer of sequences shares, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer

from sharpseq.errors import UserError
from sharpseq.objectives import Annealed, Objective, sequence_weights
from sharpseq.scoring import SequenceScores, score_model
from sharpseq.training.kl_schedule import KlSchedule
from sharpseq.training.latent_sums import LatentSums
from sharpseq.training.progress import StepClock, StepStatistics
from sharpseq.training.reduction import Window, count_tokens, reduce_losses, sequence_shares


class SequenceLossTrainer(Trainer):
    """The part of a trainer that turns an objective into the loss of an update; mix it in before another trainer.

    The loss is reduced once, over the whole accumulation window and all processes. The training arguments must have
    ``reduction`` and ``normalize_weights``. A subclass says with `sequence_ids` where packed rows have their boundaries
    and with `forward_arguments` what the model is called with.

    Args:
        args: Passed to the trainer that comes next.
        objective: Turns `SequenceScores` into a loss of each sequence.
        kwargs: Passed to the trainer that comes next.
    """

    args: Any
    model: PreTrainedModel
    objective: Objective

    loss_is_scaled_for_ga = True
    skips_empty_sequences = False
    """Whether a sequence without a single scored token is left out of the count of sequences."""
    measures_entropy = False
    """Whether the entropy of the predictions is computed and logged."""

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        self.objective = objective
        self.statistics = StepStatistics()
        self.latent_sums = LatentSums()
        self.window = Window(0, 0)
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        if not hasattr(Trainer, "loss_is_scaled_for_ga"):
            # transformers before 5.19 must see a loss function to believe that the loss is not to be divided again.
            self.compute_loss_func = self.compute_loss
        self.add_callback(StepClock(self.statistics))

    # What a subclass knows of its batches

    def sequence_ids(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the number of the sequence that each label belongs to, shape (B, T); None where a row is one."""
        return None

    def forward_arguments(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model is called with, labels included."""
        return {name: value for name, value in batch.items() if name != "example_ids"}

    # The window

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Collect the micro-batches of an update and count what the loss is divided by."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.window = self._window(batches)
        return batches, None

    def _window(self, batches: Sequence[dict[str, Any]]) -> Window:
        totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for batch in batches:
            num_tokens = self._count_tokens(batch)
            totals += torch.stack([self._counted(num_tokens).sum(), num_tokens.sum()]).to(totals)
        num_sequences, num_tokens_in_window = self._sum_over_processes(totals).tolist()
        window = Window(num_sequences, num_tokens_in_window)
        if self.args.normalize_weights and batches:
            window = Window(num_sequences, num_tokens_in_window, self._mean_weight(batches))
        return window

    def _mean_weight(self, batches: Sequence[dict[str, Any]]) -> float:
        """Return the mean weight f'(g) over the window, from one extra forward pass with the same dropout."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with torch.random.fork_rng(enabled=True), torch.no_grad(), self.compute_loss_context_manager():
            self.model_wrapped.train()
            for batch in batches:
                prepared = self._prepare_inputs(batch)
                weights = sequence_weights(self._objective_now(), self._score(self.model_wrapped, prepared))
                shares = self._shares(self._count_tokens(prepared))
                sums += torch.stack([(shares * weights).sum(), shares.sum()])
        weighted, total = self._sum_over_processes(sums).tolist()
        return float(weighted / total) if total else 1.0

    def _count_tokens(self, batch: Mapping[str, Any]) -> Tensor:
        is_shifted = not self.model.config.is_encoder_decoder
        return count_tokens(batch["labels"], shifted=is_shifted, sequence_ids=self.sequence_ids(batch))

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

    def _objective_now(self) -> Objective:
        if isinstance(self.objective, Annealed):
            return self.objective.at(self._progress)
        return self.objective

    def _score(self, model: nn.Module, batch: Mapping[str, Any], *, entropy: bool = False) -> SequenceScores:
        return score_model(
            model,
            self.forward_arguments(batch),
            uniform=bool(getattr(self.objective, "needs_uniform", False)),
            entropy=entropy,
            sequence_ids=self.sequence_ids(batch),
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the update."""
        scores = self._score(model, inputs, entropy=self.measures_entropy)
        objective = self._objective_now()
        losses, num_tokens = objective(scores), self._count_tokens(inputs)
        counted = self._counted(num_tokens)
        loss = reduce_losses(losses[counted], num_tokens[counted], reduction=self.args.reduction, window=self.window)
        loss = loss / self.window.mean_weight
        if scores.latent_kl is not None:
            penalty = self._kl_penalty(scores, progress=self._progress)
            loss = loss + reduce_losses(penalty, num_tokens, reduction=self.args.reduction, window=self.window)
        for name, values in (scores.regularizers or {}).items():
            if name == "kl":
                continue  # paid above, per token
            share = values[counted].sum() / max(self.window.num_sequences, 1)
            loss = loss + self._regularizer_weight(name) * share
        if not torch.isfinite(loss):
            raise UserError(self._describe_non_finite(losses, inputs))
        self.statistics.add(
            weights=sequence_weights(objective, scores)[counted],
            num_tokens=int(num_tokens.sum()),
            entropy=None if scores.entropy is None else float(scores.entropy.sum()),
        )
        self.latent_sums.add(scores)
        # Data parallelism averages gradients over processes; the window already counts them all.
        loss = loss * self.args.world_size
        return (loss, scores) if return_outputs else loss

    @property
    def _progress(self) -> float:
        """The share of the stage that is done."""
        return float(self.state.global_step / max(self.state.max_steps, 1))

    def _kl_penalty(self, scores: SequenceScores, *, progress: float) -> Tensor:
        """Return what each sequence pays for its latent in nats per token, shape (B,); see `KlSchedule`."""
        if scores.latent_kl is None:
            return torch.zeros_like(scores.log_prob)
        return KlSchedule.of(self.args).penalty(scores.latent_kl, scores.num_tokens, progress=progress)

    def _regularizer_weight(self, name: str) -> float:
        if name == "length":
            return float(self.args.length_weight)
        if name == "router":
            return float(getattr(self.model.config.get_text_config(), "router_aux_loss_coef", 0.0))
        raise ValueError(f"`regularizers` has {name!r}, for which there is no weight among the arguments")

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
        """Log, with the statistics of the steps since the last log beside the loss."""
        if "loss" in logs:
            latent = self.latent_sums.pop(self._sum_over_processes)
            if latent:
                schedule = KlSchedule.of(self.args)
                latent["kl_weight"] = schedule.weight_at(self._progress)
                latent["kl_budget"] = schedule.budget_at(self._progress)
            logs = {**logs, **self.statistics.pop(self._gather), **latent}
        super().log(logs, start_time)
