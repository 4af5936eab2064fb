"""The reference of a preference objective: a frozen model, the model without its adapters, or scores from a file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from sharpseq.errors import UserError
from sharpseq.models import LatentNat, MaskedTargetModel
from sharpseq.scoring import ScoreRequest, SequenceScores, score_model
from sharpseq.training.without_adapters import score_without_adapters


class Reference(Protocol):
    """What a policy is compared with."""

    @property
    def vocab_size(self) -> int | None:
        """Number of entries of its vocabulary; None where it is the policy's own."""
        ...

    def scores(self, policy: nn.Module, batch: Mapping[str, Any], request: ScoreRequest) -> SequenceScores:
        """Return what it says of the rows of a batch, without gradient.

        Args:
            policy: The model in training.
            batch: What the policy is called with, ``labels`` included.
            request: What is asked beside the log-probabilities.
        """
        ...


@dataclass(frozen=True)
class ModelReference:
    """A frozen model beside the policy.

    Args:
        model: Any model that gives its labels a probability.

    Raises:
        ValueError: If the model gives only a part of the probability, or a bound.
    """

    model: Any

    def __post_init__(self) -> None:
        check_has_probability(self.model)
        self.model.eval().requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of entries of its vocabulary."""
        return vocabulary_of(self.model)

    @torch.no_grad()
    def scores(self, policy: nn.Module, batch: Mapping[str, Any], request: ScoreRequest) -> SequenceScores:
        """Score a batch under the frozen model."""
        return score_model(self.model.to(batch["labels"].device), batch, request=request)


@dataclass(frozen=True)
class AdapterBaseReference:
    """The policy's own pretrained weights, without its adapters: no second model in memory."""

    vocab_size: None = None

    def scores(self, policy: nn.Module, batch: Mapping[str, Any], request: ScoreRequest) -> SequenceScores:
        """Score a batch under the policy without its adapters.

        Raises:
            ValueError: If it has none.
        """
        return score_without_adapters(policy, batch, request, role="reference")


def reference_of(model: Any, reference: Any = None) -> Reference:
    """Return a reference for a model that is about to be trained.

    Args:
        model: The policy.
        reference: A model, a `Reference`, or None for the policy as it is now: its own weights without the adapters
            where these have no effect yet, otherwise a frozen copy.

    Raises:
        ValueError: If the policy or the reference gives its targets no whole probability, or they are the same object.
        UserError: If the vocabularies differ in size.
    """
    check_has_probability(model)
    if reference is model:
        raise ValueError("`reference` must be another object than the model; leave it out to compare with a copy")
    if reference is None:
        has_fresh_adapter = hasattr(model, "disable_adapter") and not _has_effect(model)
        found: Reference = AdapterBaseReference() if has_fresh_adapter else ModelReference(copy.deepcopy(model))
    else:
        found = ModelReference(reference) if isinstance(reference, nn.Module) else reference
    own = vocabulary_of(model)
    if found.vocab_size is not None and found.vocab_size != own:
        raise UserError(
            f"the reference's vocabulary has {found.vocab_size:,} entries and the policy's {own:,}; they must be the "
            "same: a reference is a model with the policy's tokenizer, such as the one that it starts from"
        )
    return found


def check_has_probability(model: Any) -> None:
    """Check that a model gives its targets a probability.

    Raises:
        ValueError: If it gives that of a random part, or a bound.
    """
    if isinstance(getattr(model, "module", model), LatentNat | MaskedTargetModel):
        raise ValueError(
            "the loss compares the probability of answers with that under the reference, and this model has only that "
            "of a random part of them, or a bound; take a causal, seq2seq, CTC or vanilla one-pass model"
        )


def vocabulary_of(model: Any) -> int:
    """Return the number of entries of a model's vocabulary."""
    return int(model.config.get_text_config().vocab_size)


def _has_effect(model: nn.Module) -> bool:
    """Return whether adapters change anything: LoRA's second factor starts at 0, of other kinds nothing is known."""
    factors = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    return not factors or any(bool(weight.detach().any()) for weight in factors)
