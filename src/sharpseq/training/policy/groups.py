"""The samples of one input, and how groups of them make a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sharpseq.data import EncodedExample, pad_rows, source_batch
from sharpseq.decoding.teacher_forcing import forced_first_id
from sharpseq.scoring import IGNORED
from sharpseq.training.trainer import collator_for


@dataclass(frozen=True)
class SampledGroup:
    """The samples of one input, as plain numbers that a checkpoint can hold.

    Args:
        example: The input with its target.
        outputs: Token ids of each sample, with EOS where the model writes it.
        behavior: Log-probability of each in nats, under the distribution that it was drawn from.
        token_behavior: That of each token; None where there is none (CTC).
        rewards: Reward of each; empty before they are known.
        is_fresh: Whether the policy as it is drew them.
        is_from_reference: Whether the reference did.
    """

    example: EncodedExample
    outputs: Sequence[Sequence[int]]
    behavior: Sequence[float]
    token_behavior: Sequence[Sequence[float]] | None = None
    rewards: Sequence[float] = ()
    is_fresh: bool = True
    is_from_reference: bool = False


OWN_SAMPLES = "own_samples"
"""The key of a batch that holds what is known about its samples."""


def batch_of_groups(model: Any, groups: Sequence[SampledGroup], *, device: torch.device) -> dict[str, Any]:
    """Return a batch with one target for each sample, as a model is trained on it.

    A CTC model gets each source once, with all samples of it: it runs once, whatever their number.

    Args:
        model: The model, not wrapped for data parallelism.
        groups: At least one, all of the same number of samples.
        device: Where the batch goes.
    """
    size = len(groups[0].outputs)
    if getattr(model, "predicts_frames", False):
        outputs = [output for group in groups for output in group.outputs]
        sources = [group.example.input_ids for group in groups]
        batch: dict[str, Any] = source_batch(sources, pad_token_id=model.config.pad_token_id)
        batch["labels"] = pad_rows(outputs, filler=IGNORED)
    else:
        examples = [replace(group.example, labels=list(output)) for group in groups for output in group.outputs]
        batch = dict(collator_for(model)(examples))
    # What every output begins with is not the policy's to choose; the decoder still reads it.
    num_forced = int(not hasattr(model, "scores_labels") and forced_first_id(model) is not None)
    batch["labels"][:, :num_forced] = IGNORED
    batch["example_ids"] = torch.tensor([group.example.index for group in groups]).repeat_interleave(size)
    known: dict[str, Tensor] = {
        "behavior": _numbers(groups, lambda group: group.behavior),
        "rewards": _numbers(groups, lambda group: group.rewards),
        "groups": torch.arange(len(groups)).repeat_interleave(size),
        "is_fresh": torch.tensor([group.is_fresh for group in groups]).repeat_interleave(size),
        "is_from_reference": torch.tensor([group.is_from_reference for group in groups]).repeat_interleave(size),
        "num_tokens": torch.tensor([len(output) - num_forced for group in groups for output in group.outputs]),
    }
    rows = [row[num_forced:] for group in groups for row in group.token_behavior or ()]
    if rows:
        width = max(1, *(len(row) for row in rows))
        padded = [[*row, *[0.0] * (width - len(row))] for row in rows]
        known["token_behavior"] = torch.tensor(padded, dtype=torch.float64)
    batch[OWN_SAMPLES] = known
    return _on(batch, device)


def _numbers(groups: Sequence[SampledGroup], numbers: Callable[[SampledGroup], Sequence[float]]) -> Tensor:
    return torch.tensor([number for group in groups for number in numbers(group)], dtype=torch.float64)


def _on(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: _on(value, device) if isinstance(value, dict) else value.to(device) for name, value in batch.items()}
