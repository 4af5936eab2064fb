"""TRL: fine-tuning of causal language models under objectives of sequences, and of preferences.

`SharpSFTConfig` and `SharpSFTTrainer` stand in for TRL's `SFTConfig` and `SFTTrainer`; data, chat templates, packing
and adapters stay TRL's. `SharpDPOConfig` and `SharpDPOTrainer` do the same for `DPOConfig` and `DPOTrainer`. Importing
this module imports TRL.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sharpseq.integrations.trl_preferences import SharpDPOConfig, SharpDPOTrainer, TrlPairRows
from sharpseq.integrations.trl_targets import kept_part, report_targets
from sharpseq.integrations.trl_training import (
    FIRST_UNKNOWN,
    OLDEST,
    SFTConfig,
    SFTTrainer,
    TrlLossTrainer,
    check_parallelism,
    check_reduction,
    choose_defaults,
    objective_of,
    sft_trainer,
)
from sharpseq.objectives import OBJECTIVES, Objective
from sharpseq.training.arguments import REDUCTIONS
from sharpseq.training.score_loss import PaddedRows, ScoreLoss

__all__ = [
    "FIRST_UNKNOWN",
    "OLDEST",
    "SharpDPOConfig",
    "SharpDPOTrainer",
    "SharpSFTConfig",
    "SharpSFTTrainer",
    "TrlPairRows",
    "TrlRows",
]


@dataclass
class SharpSFTConfig(SFTConfig):
    """`trl.SFTConfig` with the objective and its reduction.

    Raises:
        ValueError: If a value is impossible, or an option of TRL would not do what it says under a sequence-level loss.
    """

    objective: str = field(
        default="convex_composition",
        metadata={"help": "Loss of a sequence; `sharpseq objectives` lists them.", "choices": list(OBJECTIVES)},
    )
    objective_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Parameters of the objective, a mapping or JSON, such as "
            '`{"transform": {"name": "exponential", "k": 2.0}}`; `sharpseq objectives` lists them.'
        },
    )
    reduction: str = field(
        default="token_mean",
        metadata={
            "help": "`token_mean` (sequences counted by their scored tokens) or `sequence_mean` (mean over sequences); "
            "over the whole accumulation window and all processes.",
            "choices": list(REDUCTIONS),
        },
    )
    divide_by_mean_weight: bool = field(
        default=False,
        metadata={
            "help": "Divide the loss by the mean of its weights f'(g) over the accumulation window, so that gradients "
            "have the size that they have under maximum likelihood; costs one more forward pass an update."
        },
    )

    def __post_init__(self) -> None:
        self.build_objective()
        check_reduction(self.reduction)
        self._check_options_of_trl()
        choose_defaults(self)
        super().__post_init__()  # type: ignore[no-untyped-call]

    def build_objective(self) -> Objective:
        """Return the objective that the fields describe.

        Raises:
            ValueError: If there is no such objective, or a parameter is unknown or impossible.
        """
        objective: Objective = objective_of(OBJECTIVES, self.objective, self.objective_kwargs)
        return objective

    def _check_options_of_trl(self) -> None:
        # Before TRL 1.15 the default is to choose between the two, of which only the first takes any adapter.
        self.loss_type = "nll" if self.loss_type in (None, "chunked_nll") else self.loss_type
        if self.loss_type != "nll":
            raise ValueError(
                f"`loss_type` must be 'nll', TRL's default; got {self.loss_type!r}: the loss is chosen by `objective`"
            )
        if self.label_smoothing_factor:
            raise ValueError(
                f"`label_smoothing_factor` must be 0; got {self.label_smoothing_factor}: use `label_smoothing`, which "
                "smooths the loss of the objective without ever holding the logits"
            )
        packs = self.packing or bool(self.eval_packing)
        if packs and self.packing_strategy == "wrapped":
            raise ValueError(
                "`packing_strategy` must be 'bfd'; got 'wrapped', which cuts sequences where a row ends and loses the "
                "boundaries between them: a loss of whole sequences has nothing whole to score there"
            )
        if self.eval_packing and not (self.packing or self.padding_free):
            raise ValueError(
                "`eval_packing` needs `packing` or `padding_free`; got `eval_packing=True` alone: TRL would then "
                "evaluate packed rows as if each were one sequence"
            )
        if packs and self.packing_strategy in ("bfd_split", "bfd-requeue"):
            warnings.warn(
                f"`packing_strategy={self.packing_strategy!r}` splits sequences longer than `max_length` into pieces, "
                "and each piece is scored as a sequence of its own; 'bfd' truncates them instead",
                stacklevel=4,
            )
        check_parallelism(self.parallelism_config)


class TrlRows(PaddedRows):
    """How TRL's batches hold their sequences: padded, packed or without padding."""

    def sequence_ids(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the number of the sequence that each label belongs to, shape (B, T), in flattened batches.

        TRL marks boundaries by ``seq_idx``; a batch without an attention mask that lacks it restarts its positions.
        """
        if batch.get("seq_idx") is not None:
            previous = batch["seq_idx"].roll(1, 1)
            starts = batch["seq_idx"] != previous
        elif "attention_mask" not in batch and batch.get("position_ids") is not None:
            starts = batch["position_ids"] == 0
        else:
            return None
        starts = starts.clone()
        starts[:, 0] = True
        ids: Tensor = (starts.flatten().cumsum(0) - 1).view_as(starts)
        return ids

    def forward_arguments(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model is called with: TRL's batch, without a cache of keys and values."""
        return {**super().forward_arguments(batch), "use_cache": False}


class SharpSFTTrainer(TrlLossTrainer, SFTTrainer):  # type: ignore[misc]  # TRL declares attributes as None
    """`trl.SFTTrainer` with a sequence-level objective.

    The loss of each sequence is taken from its log-probability, wherever its row begins and ends: padded, packed and
    padding-free batches give the same update, and so do batch × accumulation of 8×1, 2×4 and 1×8, on one process or
    more. Logits are never held; an adapter on ``lm_head`` is trained like any other. The auxiliary loss of a mixture of
    experts (``router_aux_loss_coef``) is added as TRL adds it, and not weighted by the objective.

    Logged beside TRL's ``loss``, ``entropy`` and ``num_tokens``: mean and spread of the weights f'(g)
    (``weight_mean``, ``weight_min``, ``weight_max``) and ``tokens_per_second``. Evaluation gives ``eval_loss`` under
    the objective, ``eval_nll`` and ``eval_entropy`` in nats per token, over the whole data set. TRL's
    ``mean_token_accuracy`` is left out.

    Before training, examples of which ``max_length`` leaves nothing to learn from are counted, and those whose target
    it cuts: a warning says how many. A data set of only such examples is refused.

    Args:
        model: As for `trl.SFTTrainer`: a name or folder, a causal language model, or a `peft.PeftModel`.
        args: Training arguments; default ones when not given.
        objective: Any objective; wins over the one that ``args`` describes.
        kwargs: Passed to `trl.SFTTrainer`: ``train_dataset``, ``eval_dataset``, ``processing_class``, ``peft_config`` …

    Raises:
        TypeError: If ``args`` is not a `SharpSFTConfig`.
        ValueError: If something asked for cannot be right under a sequence-level loss; the message says what to do.
        UserError: During training, when a loss is not finite.

    Example:
        >>> trainer = SharpSFTTrainer("SmolLM2", SharpSFTConfig(k=1.0), train_dataset=data)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    skips_empty_sequences = True

    def __init__(
        self,
        model: str | PreTrainedModel | nn.Module,
        args: SharpSFTConfig | None = None,
        *,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        args = SharpSFTConfig() if args is None else args
        if not isinstance(args, SharpSFTConfig):
            raise TypeError(
                f"`args` must be a SharpSFTConfig; got {type(args).__name__}: SharpSFTConfig takes the same arguments"
            )
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("`compute_loss_func` must be None: pass the loss as `objective`")
        self._num_tokens_seen = 0
        self._num_new_tokens = 0
        with _adapter_on_the_head():
            loss = ScoreLoss(objective or args.build_objective(), measures_entropy=True, rows=TrlRows())
            super().__init__(model, args, loss=loss, **kwargs)
        self._check_what_was_built()
        self._check_prepared()

    def _check_what_was_built(self) -> None:
        check_parallelism(getattr(self.accelerator, "parallelism_config", None))
        if self.args.n_gpu > 1:
            raise ValueError("`nn.DataParallel` is not supported: use `accelerate launch`, or make one GPU visible")
        if self._is_vision_dataset:
            raise ValueError("`train_dataset` has images, which are not supported: SharpSFTTrainer trains on text")
        peft_config = getattr(self.model, "active_peft_config", None)
        if getattr(peft_config, "is_prompt_learning", False):
            raise ValueError(
                f"`peft_config` {type(peft_config).__name__} puts virtual tokens before the text, which is not "
                "supported: use an adapter such as LoRA"
            )

    def _prepare_dataset(
        self,
        dataset: Any,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Any,
        dataset_name: str,
    ) -> Any:
        """Prepare a data set as TRL does, in two steps: between them, what `max_length` cuts is counted."""
        uncut = copy.copy(args)
        uncut.max_length, uncut.shuffle_dataset = None, False
        tokenized = super()._prepare_dataset(dataset, processing_class, uncut, False, formatting_func, dataset_name)
        kept = kept_part(args, packing=packing)
        tokenized = report_targets(tokenized, name=dataset_name, kept=kept, speaks=args.process_index == 0)
        return super()._prepare_dataset(tokenized, processing_class, args, packing, None, dataset_name)

    def _check_prepared(self) -> None:
        """Check data sets that came prepared: some versions of TRL cut these too, in the collator."""
        if not self._skip_prepare_dataset:
            return
        kept = slice(getattr(self.data_collator, "max_length", None))
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"eval": self.eval_dataset}
        for name, dataset in {"train": self.train_dataset, **evaluated}.items():
            report_targets(dataset, name=name, kept=kept, speaks=self.args.process_index == 0)

    # Loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the update, or, in evaluation, the mean over the batch.

        With ``return_outputs``, which TRL asks for only if there are metrics of logits, the model is called again.
        """
        if self.model.training:
            mask = inputs.get("attention_mask")
            self._num_new_tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            loss = super().compute_loss(model, inputs)
        else:
            loss = self._validation_loss(model, inputs)
        if not return_outputs:
            return loss
        with torch.no_grad():
            arguments = TrlRows().forward_arguments(inputs)
            del arguments["labels"]
            return loss, model(**arguments)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the tokens seen since training began beside the loss."""
        if "loss" in logs:
            new = torch.tensor([float(self._num_new_tokens)], device=self.args.device)
            self._num_tokens_seen += int(self._sum_over_processes(new).item())
            self._num_new_tokens = 0
            logs = {**logs, "num_tokens": self._num_tokens_seen}
        super().log(logs, start_time)


@contextlib.contextmanager
def _adapter_on_the_head() -> Iterator[None]:
    """Let TRL accept an adapter on the output head.

    It refuses one because its own loss multiplies by ``lm_head.weight`` and would pass the adapter by. Ours calls the
    head, adapter included.
    """

    class NoLayer:
        pass

    # What TRL's check asks for by name; before 1.15, the check was of another loss.
    module: Any = sft_trainer
    known = getattr(module, "BaseTunerLayer", None)
    if known is None:
        yield
        return
    module.BaseTunerLayer = NoLayer
    try:
        yield
    finally:
        module.BaseTunerLayer = known
