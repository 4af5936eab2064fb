"""How long an output may become, and which outputs reached their limit: the end of such an output may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from sharpseq.decoding.protocols import AutoregressiveModel

_KEPT_AS = "longest_training_target"
_LEAST_MARGIN = 10


@dataclass(frozen=True)
class ReachedLimit:
    """A length limit that an output reached.

    Args:
        num_tokens: The limit, in tokens.
        remedy: What allows longer outputs, in words.
    """

    num_tokens: int
    remedy: str


def reached_limits(
    lengths: Tensor, limits: Tensor, *, remedies: str | Sequence[str]
) -> tuple[ReachedLimit | None, ...]:
    """Return the limit of each output that reached it, None for the others.

    Args:
        lengths: Lengths of the outputs in tokens, shape (B,).
        limits: The longest that each could be, shape (B,).
        remedies: What allows longer outputs: the same for all, or one text for each.

    Example:
        >>> reached_limits(torch.tensor([3, 4]), torch.tensor([4, 4]), remedies="raise it")
        (None, ReachedLimit(num_tokens=4, remedy='raise it'))
    """
    texts = [remedies] * len(lengths) if isinstance(remedies, str) else remedies
    return tuple(
        ReachedLimit(limit, remedy) if length >= limit else None
        for length, limit, remedy in zip(lengths.tolist(), limits.tolist(), texts, strict=True)
    )


def remember_longest_target(model: Any, num_tokens: int | None) -> None:
    """Note the longest target that a model is trained on in its generation configuration, which is saved with it.

    Args:
        model: The model; nothing happens to one without a generation configuration, which predicts lengths itself.
        num_tokens: Length of that target in tokens, EOS not counted; None if it is unknown.
    """
    generation_config = getattr(model, "generation_config", None)
    if generation_config is not None:
        # One that is marked as derived from the model's configuration loses further entries when it is loaded.
        entries = {**generation_config.to_dict(), "_from_model_config": False, _KEPT_AS: num_tokens}
        model.generation_config = GenerationConfig.from_dict(entries)


def longest_training_target(model: Any) -> int | None:
    """Return what `remember_longest_target` noted, None for a model that was trained elsewhere."""
    found: int | None = getattr(getattr(model, "generation_config", None), _KEPT_AS, None)
    return found


def with_margin(longest_target: int) -> int:
    """Return how long outputs may become where no limit is given: half as much again, at least 10 tokens more.

    Args:
        longest_target: Length of the longest target of the training in tokens, EOS not counted.

    Example:
        >>> with_margin(40), with_margin(3)
        (60, 13)
    """
    return longest_target + max(longest_target // 2, _LEAST_MARGIN)


def new_token_limits(
    model: AutoregressiveModel, source_lengths: Tensor, *, min_new_tokens: int, max_new_tokens: int | None
) -> Tensor:
    """Return the largest number of tokens of each output, EOS not counted and positions aside, shape (B,)."""
    longest_target = longest_training_target(model)
    if max_new_tokens is None and longest_target is not None:
        max_new_tokens = with_margin(longest_target)
    limits = 2 * source_lengths + 10 if max_new_tokens is None else torch.full_like(source_lengths, max_new_tokens)
    return limits.clamp(min=min_new_tokens)


def reached_new_token_limits(
    num_tokens: Tensor, limits: Tensor, *, room: Tensor | int | None
) -> tuple[ReachedLimit | None, ...]:
    """Return the limits that outputs of an autoregressive model reached.

    Args:
        num_tokens: Lengths of the outputs, shape (B,).
        limits: The longest that each could be, shape (B,).
        room: How many tokens the model's positions leave for each output; None for a model without such a limit.
    """
    is_full = torch.zeros_like(limits, dtype=torch.bool) if room is None else limits >= room
    remedies = [
        "the model has no more positions" if full else "raise the decoder's setting `max_new_tokens`"
        for full in is_full.tolist()
    ]
    return reached_limits(num_tokens, limits, remedies=remedies)
