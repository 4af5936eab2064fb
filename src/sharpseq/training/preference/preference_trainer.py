"""The trainer of a policy that learns from preferences."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from sharpseq.data import PairCollator
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.preference import FDpo, PairObjective
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.preference.preference_loss import PreferenceLoss
from sharpseq.training.preference.references import Reference, reference_of
from sharpseq.training.trainer import SequenceTrainer, collator_for, score_loss


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
        loss = PreferenceLoss(
            objective or FDpo(), reference_of(model, reference), score_loss(MaximumLikelihood(), args)
        )
        collator = data_collator or PairCollator(collator_for(model))
        super().__init__(model, args, loss=loss, data_collator=collator, **kwargs)
