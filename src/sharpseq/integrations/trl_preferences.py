"""TRL: preferences under the objectives of this package, with TRL's data, chat templates, adapters and launchers.

Importing this module imports TRL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sharpseq.integrations.trl_training import (
    DPOConfig,
    DPOTrainer,
    TrlLossTrainer,
    check_parallelism,
    check_reduction,
    choose_defaults,
    objective_of,
    use_adapter,
)
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.preference import PREFERENCES, PairNeeds, PairObjective
from sharpseq.scoring import IGNORED, ScoreRequest, SequenceScores, score_model
from sharpseq.training.arguments import REDUCTIONS
from sharpseq.training.preference import PreferenceLoss
from sharpseq.training.score_loss import PaddedRows, ScoreLoss

_STORED = ("ref_chosen_logps", "ref_rejected_logps")
_OTHER_LOSSES = {
    "loss_type": (["sigmoid"], "the loss is chosen by `objective`"),
    "label_smoothing": (0.0, "no objective here smooths preferences"),
    "f_divergence_type": ("reverse_kl", "give `objective='f_dpo'` its `divergence` in `objective_kwargs`"),
    "ld_alpha": (None, "no objective here discounts long answers"),
    "use_weighting": (False, "no objective here weighs pairs"),
    "loss_weights": (None, "the loss is chosen by `objective`"),
    "use_liger_kernel": (False, "the logits are never held anyway"),
}


@dataclass
class SharpDPOConfig(DPOConfig):
    """`trl.DPOConfig` with the objective and its reduction; ``beta`` of TRL is the objective's unless it has its own.

    Raises:
        ValueError: If a value is impossible, or an option of TRL would not do what it says.
    """

    objective: str = field(
        default="f_dpo",
        metadata={"help": "Objective of preferences; `sharpseq objectives` lists them.", "choices": list(PREFERENCES)},
    )
    objective_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": 'Parameters of the objective, a mapping or JSON, such as `{"divergence": "jensen_shannon"}`; '
            "`sharpseq objectives` lists them."
        },
    )
    reduction: str = field(
        default="sequence_mean",
        metadata={
            "help": "`sequence_mean` (mean over pairs) or `token_mean` (pairs counted by their tokens); over the whole "
            "accumulation window and all processes.",
            "choices": list(REDUCTIONS),
        },
    )
    divide_by_mean_weight: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self.build_objective()
        check_reduction(self.reduction)
        choose_defaults(self)
        super().__post_init__()  # type: ignore[no-untyped-call]
        for name, (default, why) in _OTHER_LOSSES.items():
            if getattr(self, name, default) != default:
                raise ValueError(f"`{name}` must be {default!r}; got {getattr(self, name)!r}: {why}")
        check_parallelism(self.parallelism_config)

    def build_objective(self) -> PairObjective:
        """Return the objective that the fields describe.

        Raises:
            ValueError: If there is no such objective, or a parameter is unknown or impossible.
        """
        objective: PairObjective = objective_of(PREFERENCES, self.objective, self.objective_kwargs)
        given = json.loads(self.objective_kwargs) if isinstance(self.objective_kwargs, str) else self.objective_kwargs
        return objective if "beta" in (given or {}) else replace(objective, beta=self.beta)  # type: ignore[call-arg]


class TrlPairRows(PaddedRows):
    """How TRL's batches hold pairs: all chosen rows, then all rejected ones, with a mask of the answers."""

    def forward_arguments(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the model is called with: TRL's batch with labels, without what is not the model's."""
        arguments = {name: values for name, values in batch.items() if name not in ("completion_mask", *_STORED)}
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
        return {**arguments, "labels": labels, "use_cache": False}


class SharpDPOTrainer(TrlLossTrainer, DPOTrainer):  # type: ignore[misc]  # TRL declares attributes as None
    """`trl.DPOTrainer` with the objectives of preferences of this package.

    The reference is TRL's: a second model, the adapters disabled, or log-probabilities that TRL has computed before.
    The loss is reduced over the accumulation window and all processes, so that batch × accumulation of 8×1, 2×4 and 1×8
    give the same update. Logits are never held, those of drift at each token a chunk at a time. Logged: ``accuracy``,
    ``margin``, ``chosen_log_ratio`` and ``rejected_log_ratio`` in place of TRL's metrics.

    Args:
        model: As for `trl.DPOTrainer`.
        args: Training arguments; default ones when not given.
        objective: Any objective of preferences; wins over the one that ``args`` describes.
        kwargs: Passed to `trl.DPOTrainer`: ``ref_model``, ``train_dataset``, ``processing_class``, ``peft_config`` …

    Raises:
        TypeError: If ``args`` is not a `SharpDPOConfig`.
        ValueError: If something asked for cannot be right; the message says what to do.
        UserError: During training, when a loss is not finite.

    Example:
        >>> trainer = SharpDPOTrainer("SmolLM2", SharpDPOConfig("out"), train_dataset=pairs)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | PreTrainedModel | nn.Module,
        args: SharpDPOConfig | None = None,
        *,
        objective: PairObjective | None = None,
        **kwargs: Any,
    ) -> None:
        args = SharpDPOConfig() if args is None else args
        if not isinstance(args, SharpDPOConfig):
            raise TypeError(
                f"`args` must be a SharpDPOConfig; got {type(args).__name__}: SharpDPOConfig takes the same arguments"
            )
        chosen = objective or args.build_objective()
        if args.precompute_ref_log_probs and chosen.needs.drift is not None:
            raise ValueError(
                f"`precompute_ref_log_probs` must be false: {chosen.declaration.name} compares whole distributions"
            )
        if chosen.needs.masks == "learned":
            raise ValueError(
                "`objective` must not learn masks of tokens under TRL, whose optimizer would not know them: take "
                "`masks='fixed'`, or `sharpseq.PreferenceTrainer`"
            )
        scoring = ScoreLoss(MaximumLikelihood(), rows=TrlPairRows())
        loss = _TrlPreferenceLoss(chosen, _TrlReference(self), scoring)
        super().__init__(model, args=args, loss=loss, **kwargs)
        check_parallelism(getattr(self.accelerator, "parallelism_config", None))
        if self._is_vision_dataset:
            raise ValueError("`train_dataset` has images, which are not supported: SharpDPOTrainer trains on text")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the update, or, in evaluation, the mean over the batch.

        Raises:
            ValueError: If outputs are asked for, which would be logits.
        """
        if return_outputs:
            raise ValueError("`compute_metrics` must be None: it reads logits, which are never held here")
        if self.model.training:
            return super().compute_loss(model, inputs)
        return self._validation_loss(model, inputs)


class _TrlReference:
    """The reference of a trainer of TRL: its second model, or the policy with the adapters that it began with."""

    vocab_size = None

    def __init__(self, trainer: SharpDPOTrainer) -> None:
        self.trainer = trainer

    @torch.no_grad()
    def scores(self, policy: nn.Module, batch: Mapping[str, Any], request: ScoreRequest) -> SequenceScores:
        if self.trainer.ref_model is not None:
            return score_model(self.trainer.ref_model, batch, request=request)
        model: Any = self.trainer.accelerator.unwrap_model(self.trainer.model)
        first = "ref" if "ref" in getattr(model, "peft_config", {}) else None
        with use_adapter(model, adapter_name=first):
            scores = score_model(model, batch, request=request)
        positions = scores.positions
        if positions is None or positions.head is None:
            return scores
        head = positions.head

        def head_of_reference(hidden: torch.Tensor) -> torch.Tensor:
            with use_adapter(model, adapter_name=first):
                return head(hidden)

        positions.head = head_of_reference
        return scores


class _TrlPreferenceLoss(PreferenceLoss):
    """`PreferenceLoss` that reads what TRL has computed beforehand."""

    def reference_scores(self, model: nn.Module, batch: Mapping[str, Any], needs: PairNeeds) -> SequenceScores:
        if _STORED[0] not in batch:
            return super().reference_scores(model, batch, needs)
        log_prob = torch.cat([batch[name] for name in _STORED])
        return SequenceScores(log_prob=log_prob, num_tokens=batch["completion_mask"].sum(1))
