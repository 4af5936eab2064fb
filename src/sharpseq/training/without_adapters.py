"""Scores under a model's own pretrained weights, without its adapters: the other model that needs no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sharpseq.scoring import ScoreRequest, SequenceScores, score_model


@torch.no_grad()
def score_without_adapters(
    model: nn.Module, batch: Mapping[str, Any], request: ScoreRequest, *, role: str
) -> SequenceScores:
    """Score a batch under a model without its adapters; an output head that is asked for is without them too.

    Args:
        model: The model in training, wrapped for data parallelism or not.
        batch: What it is called with, ``labels`` included.
        request: What is asked beside the log-probabilities.
        role: What the model without adapters is to the one in training, for the error.

    Raises:
        ValueError: If it has none.
    """
    unwrapped: Any = getattr(model, "module", model)
    if not hasattr(unwrapped, "disable_adapter"):
        raise ValueError(f"`{role}` is the model without its adapters, and this model has none; add `model.lora`")
    was_training = unwrapped.training
    try:
        with unwrapped.disable_adapter():
            scores = score_model(unwrapped.eval(), batch, request=request)
    finally:
        unwrapped.train(was_training)
    positions = scores.positions
    if positions is None or positions.head is None:
        return scores
    head = positions.head

    def base_head(hidden: Tensor) -> Tensor:
        with unwrapped.disable_adapter():
            return head(hidden)

    return replace(scores, positions=replace(positions, head=base_head))
