"""The trainer of a policy that learns from preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput

from sharpseq.data import PairCollator
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.preference import FDpo, PairObjective
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.preference.preference_loss import PreferenceLoss
from sharpseq.training.preference.references import Reference, reference_of
from sharpseq.training.preference.token_masks import token_masks_for
from sharpseq.training.trainer import SequenceTrainer, collator_for, score_loss

_MASKS = "preference_token_masks"
_MASKS_FILE = f"{_MASKS}.safetensors"


class PreferenceTrainer(SequenceTrainer):
    """`SequenceTrainer` of a policy that learns which of two answers is preferred.

    A pair counts as one sequence; a token budget counts the rows of both answers.

    Args:
        model: The policy: a causal or seq2seq language model, with adapters or not, or a CTC or vanilla one-pass model.
        args: Training arguments. Without dropout, policy and reference differ only by what was learned.
        objective: What is minimised; DPO by default.
        reference: A model, which is frozen; or any `Reference`, such as stored scores. By default the policy as it is
            now: its weights without the adapters where these are new, otherwise a frozen copy.
        train_dataset: A sequence of `sharpseq.data.EncodedPair`.
        kwargs: Passed to `SequenceTrainer`.

    Raises:
        ValueError: If the model gives its answers no probability, only that of a random part or a bound.
        UserError: If policy and reference have vocabularies of different sizes.

    Example:
        >>> from sharpseq.data import encode_pairs, read_preferences
        >>> pairs = encode_pairs(
        ...     read_preferences("pairs.jsonl"), tokenizer, append_eos_to_target=True
        ... )  # doctest: +SKIP
        >>> trainer = PreferenceTrainer(
        ...     model, SequenceTrainingArguments("out"), train_dataset=pairs
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: SequenceTrainingArguments,
        *,
        objective: PairObjective | None = None,
        reference: PreTrainedModel | Reference | None = None,
        data_collator: Any = None,
        **kwargs: Any,
    ) -> None:
        chosen = objective or FDpo()
        self.token_masks = token_masks_for(chosen, model)
        loss = PreferenceLoss(
            chosen, reference_of(model, reference), score_loss(MaximumLikelihood(), args), self.token_masks
        )
        collator = data_collator or PairCollator(collator_for(model))
        super().__init__(model, args, loss=loss, data_collator=collator, **kwargs)
        if self.token_masks is not None:
            self.token_masks.to(args.device)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; what weighs tokens is a part of the model meanwhile, so that one optimizer has all parameters."""
        if self.token_masks is None:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        self.model.add_module(_MASKS, self.token_masks)
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            delattr(self.model, _MASKS)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.token_masks is not None:
            # Adapters are saved alone, so these have a file of their own.
            save_file(self.token_masks.state_dict(), Path(output_dir or str(self.args.output_dir)) / _MASKS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.token_masks is not None:
            self.token_masks.load_state_dict(load_file(Path(resume_from_checkpoint) / _MASKS_FILE))
