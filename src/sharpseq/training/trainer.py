"""The trainer: trains any model with any objective."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, ProgressCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from sharpseq.data import (
    CausalCollator,
    EncodedExample,
    EncodedPair,
    FilterReport,
    SequenceCollator,
    StreamingBatches,
    TokenBudgetBatchSampler,
)
from sharpseq.decoding import remember_longest_target
from sharpseq.decoding.teacher_forcing import token_id
from sharpseq.errors import UserError
from sharpseq.models.adapters import keep_generation_config, without_wrapper
from sharpseq.models.pretrained import is_causal
from sharpseq.objectives import Objective
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.batches import evaluation_batches, for_every_process, training_batches
from sharpseq.training.checkpoints import seal_checkpoint
from sharpseq.training.endless_stream import EndlessStream
from sharpseq.training.glancing_ratio import Glancing
from sharpseq.training.kl_penalty import KlPenalty
from sharpseq.training.loss import Loss
from sharpseq.training.loss_trainer import LossTrainer
from sharpseq.training.progress import ProgressBar
from sharpseq.training.running_means import COUNTS, RunningMeans, check_any_target, validation_statistics
from sharpseq.training.score_loss import ScoreLoss
from sharpseq.training.weight_ema import WeightEma

Evaluator = Callable[[PreTrainedModel], Mapping[str, float]]
"""Turns a model into named validation metrics, higher or lower is better as the arguments say."""


class SequenceTrainer(LossTrainer):
    """`transformers.Trainer` with an objective, or any other `Loss`, in place of the model's own loss.

    The loss is reduced once, over the whole accumulation window and all processes, so that batch × accumulation of
    8×1, 2×4 and 1×8 on one process or two give the same update.

    Args:
        model: One of our models, or a Hugging Face seq2seq or causal language model.
        args: Training arguments; `SequenceTrainingArguments` adds token-budget batches and the reduction.
        objective: Turns `SequenceScores` into a loss of each sequence; maximum likelihood is an objective too.
        loss: A loss that is no function of scores alone; in place of ``objective``.
        evaluated_model: The model that evaluators get, if it is not ``model`` but one that contains it.
        train_dataset: A sequence of `sharpseq.data.EncodedExample`; or `sharpseq.data.StreamingBatches`, which is read
            pass after pass until ``max_steps``; or anything that ``data_collator`` understands, such as a Hugging Face
            data set.
        eval_dataset: The same for validation.
        data_collator: Makes batches with ``labels``; by default one that fits ``model``.
        evaluators: Called with the model at each evaluation; what they return is logged with the prefix ``eval_``
            and can select the best checkpoint.
        description: Text of the progress bar.
        kwargs: Passed to `transformers.Trainer`.

    Raises:
        ValueError: If both or neither of ``objective`` and ``loss`` are given, or metrics of logits are asked for.
        UserError: During training, when a loss is not finite; the message names the batch.
    """

    args: SequenceTrainingArguments
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: SequenceTrainingArguments,
        *,
        objective: Objective | None = None,
        loss: Loss | None = None,
        evaluated_model: PreTrainedModel | None = None,
        train_dataset: Sequence[EncodedExample] | Any = None,
        eval_dataset: Sequence[EncodedExample] | Any = None,
        data_collator: Callable[[Sequence[Any]], dict[str, Tensor]] | None = None,
        evaluators: Sequence[Evaluator] = (),
        description: str = "training",
        callbacks: Sequence[TrainerCallback] = (),
        **kwargs: Any,
    ) -> None:
        if objective is not None and loss is None:
            loss = score_loss(objective, args)
        elif objective is not None or loss is None:
            raise ValueError("give `objective` or `loss`, one of them")
        if kwargs.get("compute_metrics") is not None or kwargs.get("preprocess_logits_for_metrics") is not None:
            raise ValueError(
                "`compute_metrics` reads logits, which are never held here; give `evaluators`, functions of the model "
                "that return named figures"
            )
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("`compute_loss_func` must be None: pass the loss as `objective` or `loss`")
        self.evaluators = tuple(evaluators)
        self._evaluated_model = evaluated_model
        self._train_batches: TokenBudgetBatchSampler | None = None
        self._stream: EndlessStream | None = None
        super().__init__(
            model,
            args,
            loss=loss,
            data_collator=data_collator or collator_for(evaluated_model or model),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=[*callbacks, _Bookkeeping(self)],
            **kwargs,
        )
        self._ema: WeightEma | None = None
        if args.ema_decay:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("`ema_decay` must be 0 where a model is sharded; use data parallelism")
            self._ema = WeightEma(self.model, decay=args.ema_decay)
            self.add_callback(self._ema)
        self._remember_longest_target(train_dataset)
        if evaluated_model is not None and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError("`args` must not shard a model that is a part of another one; use data parallelism")
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ProgressBar(description))

    @property
    def whole_model(self) -> PreTrainedModel:
        """The model that evaluators get: the trained one, or one that contains it."""
        return self._evaluated_model or self.model

    def _remember_longest_target(self, dataset: Any) -> None:
        """Note in the model how long outputs may become: as long as the training targets, with a margin."""
        longest: int | None = None
        if isinstance(dataset, StreamingBatches):
            longest = dataset.max_target_length
        elif isinstance(dataset, Sequence) and dataset and isinstance(dataset[0], EncodedExample | EncodedPair):
            longest = max(len(example.labels) for example in dataset)
            if longest == 0:
                raise ValueError("`train_dataset` has no example with a target; there is nothing to learn from")
        if longest is not None:
            # Less EOS, which the targets of these models end with.
            remember_longest_target(without_wrapper(self.whole_model), longest - 1)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; see `transformers.Trainer.train`. Resuming from the checkpoint of the last update does nothing.

        transformers would then make one update too many.
        """
        if resume_from_checkpoint and not isinstance(resume_from_checkpoint, bool):
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            if state.global_step >= self._num_updates(state):
                self.state = state
                self._load_from_checkpoint(resume_from_checkpoint)
                if self.args.load_best_model_at_end and state.best_model_checkpoint is not None:
                    self._load_best_model()
                self._finish_ema()
                return TrainOutput(state.global_step, 0.0, {})
        output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)
        self._finish_ema()
        return output

    def _finish_ema(self) -> None:
        """Leave the average in the model: that of the best checkpoint, or the last one."""
        if self._ema is not None:
            self._ema.finish(self.state.best_model_checkpoint if self.args.load_best_model_at_end else None)

    def _num_updates(self, state: TrainerState) -> float:
        """Return how many updates the arguments ask for; infinite if it depends on the data."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        same_epochs = state.num_train_epochs == math.ceil(self.args.num_train_epochs)
        return state.max_steps if same_epochs else math.inf

    # Batches

    @property
    def filter_report(self) -> FilterReport:
        """What the filter of a streamed corpus dropped in its first pass, or so far."""
        return self._stream.filter_report if self._stream else FilterReport()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches of similar length within the token budget, the same number for every process."""
        if isinstance(self.train_dataset, StreamingBatches):
            return self._stream_loader(self.train_dataset)
        is_list = hasattr(self.train_dataset, "__getitem__")
        if not is_list or (self.args.per_device_train_batch_tokens is None and self.args.world_size == 1):
            loader: DataLoader[Any] = super().get_train_dataloader()
            return loader
        dataset = for_every_process(self.train_dataset, self.args)
        self._train_batches = training_batches(dataset, self.args, in_one_row=self._in_one_row)
        return self._loader(dataset, self._train_batches)

    def _stream_loader(self, batches: StreamingBatches) -> DataLoader[Any]:
        # Not prepared by accelerate, which would let one process read batches and split them among the others: a
        # stream gives every process its own whole batches.
        self._stream = EndlessStream(batches.shard(rank=self.args.process_index, world_size=self.args.world_size))
        return DataLoader(
            self._stream,
            batch_size=None,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    @property
    def _in_one_row(self) -> bool:
        return is_causal(self.whole_model.config)

    def _loader(self, dataset: Any, batches: TokenBudgetBatchSampler) -> DataLoader[Any]:
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    # Loss

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Return the context of a forward pass, with plain attention on CPUs.

        At sentence lengths on a CPU, the fused kernel makes a bf16 training step of a small model 1.4 to 1.6 times
        slower than plain matrix products.
        """
        stack = super().compute_loss_context_manager()
        if self.args.device.type == "cpu":
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        return stack

    # Evaluation

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return validation loss and metrics, logged.

        Returns:
            ``eval_loss`` under the objective's reduction, ``eval_nll`` in nats per token, the number of targets that
            the model cannot write at all (``eval_infeasible``, if any; the other figures leave them out), the number of
            sequences without a target token (``eval_without_target``, if any), and whatever the evaluators return.

        Raises:
            UserError: If no sequence has a target token, or the loss is not finite.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        self.model.eval()
        metrics: dict[str, float] = {}
        with contextlib.nullcontext() if self._ema is None else self._ema.applied():
            if dataset is not None:
                metrics.update(self._evaluate_loss(dataset))
            metrics.update(self._evaluate_model())
        if not math.isfinite(metrics.get("nll", 0.0)):
            raise UserError(
                f"the validation loss is not finite after step {self.state.global_step}: the training has diverged; "
                "lower the learning rate. The last checkpoint is from before that"
            )
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def _evaluate_model(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for evaluator in self.evaluators:
            found.update(evaluator(self.whole_model))
        # Every process decodes everything, because the others could only wait. But machines may round differently,
        # and all must agree on which checkpoint is the best.
        if self.args.world_size > 1:
            [found] = broadcast_object_list([found])
        return found

    def _evaluate_loss(self, dataset: Sequence[Any]) -> dict[str, float]:
        means, step = RunningMeans(), self._step(is_training=False)
        num_examples = len(dataset)
        dataset = for_every_process(dataset, self.args)
        for batch in self._loader(dataset, evaluation_batches(dataset, self.args, in_one_row=self._in_one_row)):
            inputs = self._prepare_inputs(batch)
            output = self.loss_output(self.model_wrapped, inputs, step)
            means.add(validation_statistics(output, shares=self._shares(output.num_tokens)))
        found = self.loss.figures(means.pop(self._sum_over_processes))
        check_any_target(found)
        counts = {name: found.pop(name, 0.0) * num_examples / len(dataset) for name in COUNTS}
        return {**found, **{name: count for name, count in counts.items() if count}}

    # Checkpoints

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Say whether these metrics are the best so far; of equal ones, those with the lower NLL, then the later."""
        if super()._determine_best_metric(metrics=metrics, trial=trial):
            return True
        name = str(self.args.metric_for_best_model)
        value = metrics.get(name if name.startswith("eval_") else f"eval_{name}")
        if value is None or value != self.state.best_metric:
            return False
        best = [row for row in self.state.log_history if row["step"] == self.state.best_global_step]
        best_nll = next((row["eval_nll"] for row in reversed(best) if "eval_nll" in row), math.inf)
        if metrics.get("eval_nll", math.inf) > best_nll:
            return False
        self.state.best_global_step = self.state.global_step
        return True

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        keep_generation_config(self.model, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._ema is not None:
            self._ema.load(Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Older checkpoints are deleted only after the new one is sealed: a kill at any moment leaves a complete one.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        folder = Path(self._get_output_dir(trial=trial))
        try:
            if self.args.should_save:
                shutil.rmtree(folder / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            # The other processes write their random states into the folder; it must not be deleted with the old ones.
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            if self._ema is not None:
                self._ema.save(folder / f"checkpoint-{self.state.global_step}")
            seal_checkpoint(folder / f"checkpoint-{self.state.global_step}")
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )


class _Bookkeeping(TrainerCallback):
    """Notifies the trainer's own parts when training and epochs begin."""

    def __init__(self, trainer: SequenceTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Weights start from one seed everywhere; dropout and masks must not be the same in all processes. A resumed
        # process finds its own random state in the checkpoint.
        if args.process_index and not state.global_step:
            torch.manual_seed(args.seed + args.process_index)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer._train_batches is not None:
            # A resumed epoch is a fraction past its beginning; a finished one is whole up to rounding.
            self.trainer._train_batches.set_epoch(int((state.epoch or 0.0) + 1e-6))


def collator_for(model: PreTrainedModel) -> SequenceCollator | CausalCollator:
    """Return a collator with a model's padding: prompt and target in one row, or decoder inputs where it has them."""
    if is_causal(model.config):
        # Many causal models name no padding. Padding is neither attended to nor scored.
        return CausalCollator(model.config.pad_token_id or 0)
    is_autoregressive = model.config.is_encoder_decoder and not hasattr(model, "scores_labels")
    inner: Any = without_wrapper(model)
    start = token_id(inner, "decoder_start") if is_autoregressive else None
    return SequenceCollator(model.config.pad_token_id, decoder_start_token_id=start)


def score_loss(objective: Objective, arguments: SequenceTrainingArguments) -> ScoreLoss:
    """Return an objective as a loss, with the regularizers that the training arguments set."""
    return ScoreLoss(
        objective,
        kl=KlPenalty.of(arguments),
        length_weight=arguments.length_weight,
        glancing=Glancing.of(arguments),
    )
