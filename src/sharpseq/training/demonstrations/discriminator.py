"""A discriminator of demonstrations and samples: a logistic regression on what a frozen model sees in a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpseq.data import EncodedExample
from sharpseq.objectives.demonstrations import discriminator_loss
from sharpseq.scoring import ScoreRequest, score_model
from sharpseq.training.distillation.own_targets import with_own_samples
from sharpseq.training.trainer import collator_for

_STEPS = 100


@dataclass(frozen=True, eq=False)
class Discriminator:
    """Gives targets a logit: the log-ratio of demonstrations to samples, as far as the features tell them apart.

    The features of a target are the mean of the last hidden states that predict its tokens, standardised.

    Args:
        model: The frozen model whose hidden states are read.
        mean: Mean of each feature, shape (D,).
        deviation: Its standard deviation, shape (D,).
        weights: Of the logistic regression, shape (D,).
        bias: Its bias, shape ().
    """

    model: Any
    mean: Tensor
    deviation: Tensor
    weights: Tensor
    bias: Tensor

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the logit of each row of a batch from the collator, shape (B,)."""
        features = target_features(self.model, batch)
        return (features - self.mean.to(features)) / self.deviation.to(features) @ self.weights.to(
            features
        ) + self.bias.to(features)


@torch.no_grad()
def target_features(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """Return the mean over target tokens of the last hidden states, shape (B, D), at least float32.

    Raises:
        ValueError: If the model does not say where it predicts.
    """
    inputs = {name: values for name, values in batch.items() if name != "example_ids"}
    positions = score_model(model, inputs, request=ScoreRequest(hidden_states=True)).positions
    if positions is None or positions.hidden_states is None:
        raise ValueError("the model does not say where it predicts, so a discriminator has nothing to read")
    mask = positions.mask[..., None]
    hidden = positions.hidden_states.to(torch.promote_types(positions.hidden_states.dtype, torch.float32))
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def fit_discriminator(
    model: Any,
    demonstrations: Sequence[EncodedExample],
    *,
    seed: str = "discriminator",
    penalty: float = 1e-2,
    batch_size: int = 32,
) -> Discriminator:
    """Let a model write a target for each prompt of the demonstrations, and learn to tell both kinds apart.

    Args:
        model: The model, causal or seq2seq; it is frozen, and its hidden states are the features.
        demonstrations: The demonstrations; each with an index of its own.
        seed: Decides the samples.
        penalty: Of the squared weights, greater than 0; without one, sets that can be told apart have no optimum.
        batch_size: Demonstrations scored together.

    Raises:
        ValueError: If there are no demonstrations or the penalty is not positive.
    """
    if not demonstrations:
        raise ValueError("`demonstrations` must hold at least one example")
    if not penalty > 0:
        raise ValueError(f"`penalty` must be greater than 0; got {penalty:g}")
    model.requires_grad_(False).eval()
    collate = collator_for(model)
    parts: list[list[Tensor]] = [[], []]
    for start in range(0, len(demonstrations), batch_size):
        batch = {
            name: values.to(model.device)
            for name, values in collate(demonstrations[start : start + batch_size]).items()
        }
        own = with_own_samples(model, batch, share=1.0, temperature=1.0, seed=seed)
        for found, each in zip(parts, (batch, own), strict=True):
            found.append(target_features(model, each).double())
    positive, negative = (torch.cat(found) for found in parts)
    both = torch.cat([positive, negative])
    mean, deviation = both.mean(0), both.std(0).clamp(min=1e-6)
    weights, bias = _logistic_regression((positive - mean) / deviation, (negative - mean) / deviation, penalty=penalty)
    return Discriminator(model, mean, deviation, weights, bias)


def _logistic_regression(positive: Tensor, negative: Tensor, *, penalty: float) -> tuple[Tensor, Tensor]:
    weights = positive.new_zeros(positive.shape[1]).requires_grad_()
    bias = positive.new_zeros(()).requires_grad_()
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = discriminator_loss(positive @ weights + bias, negative @ weights + bias)
        loss = loss + penalty * (weights**2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weights.detach(), bias.detach()
