"""Sequence scores of models that predict one token at a position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.scoring.chosen_log_probs import chosen_log_probs
from sharpseq.scoring.sequence_scores import SequenceScores

IGNORED = -100
"""The label of a position that is not scored, as everywhere in PyTorch and transformers."""


def sequence_scores(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    uniform: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> SequenceScores:
    r"""Score sequences from hidden states and an output head.

    Args:
        hidden: Hidden states aligned with the labels, shape (B, T, D).
        weight: Output embedding, shape (V, D).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        bias: Output bias, shape (V,).
        uniform: Also compute ``uniform_log_prob``, which label smoothing needs.
        temperature: Divides the logits; greater than 0.
        softcap: If given, logits are c·tanh(logits/c) before the temperature, as in Gemma 2.

    Returns:
        Scores in float32 (float64 for float64 inputs), shape (B,) each.

    Raises:
        ValueError: If shapes disagree, a label is outside the vocabulary, or ``temperature`` is not positive.

    Example:
        >>> hidden, weight = torch.zeros(1, 2, 4), torch.zeros(3, 4)
        >>> scores = sequence_scores(hidden, weight, torch.tensor([[2, -100]]))
        >>> scores.log_prob, scores.num_tokens
        (tensor([-1.0986]), tensor([1]))
    """
    if hidden.shape[:2] != labels.shape:
        raise ValueError(f"`hidden` {tuple(hidden.shape)} and `labels` {tuple(labels.shape)} must agree in (B, T)")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be greater than 0; got {temperature}")
    logits = F.linear(hidden, weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if temperature != 1.0:
        logits = logits / temperature
    return scores_from_logits(logits, labels, uniform=uniform)


def scores_from_logits(logits: Tensor, labels: Tensor, *, uniform: bool = False) -> SequenceScores:
    """Score sequences from logits aligned with the labels.

    Args:
        logits: Unnormalised log-probabilities, shape (B, T, V).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        uniform: Also compute ``uniform_log_prob``.

    Returns:
        Scores in at least float32, shape (B,) each.

    Raises:
        ValueError: If shapes disagree or a label is outside the vocabulary.

    Example:
        >>> scores_from_logits(torch.zeros(1, 2, 2), torch.tensor([[0, 1]])).log_prob
        tensor([-1.3863])
    """
    if logits.shape[:2] != labels.shape:
        raise ValueError(f"`logits` {tuple(logits.shape)} and `labels` {tuple(labels.shape)} must agree in (B, T)")
    scored = labels != IGNORED
    outside = scored & ((labels < 0) | (labels >= logits.shape[-1]))
    if outside.any():
        raise ValueError(
            f"`labels` must be -100 or in [0, {logits.shape[-1]}), the vocabulary; got {int(labels[outside][0])}"
        )
    # Padding is scored too and left out of the sum: picking out the rest would copy the logits, and give every batch a
    # shape of its own, for which a CPU compiles new kernels.
    chosen = labels.masked_fill(~scored, 0).view(-1, 1)
    log_probs, means = chosen_log_probs(logits.flatten(0, 1), chosen, uniform=uniform)

    def sum_scored(values: Tensor) -> Tensor:
        return values.view(labels.shape).masked_fill(~scored, 0).sum(1)

    return SequenceScores(
        log_prob=sum_scored(log_probs),
        num_tokens=scored.sum(1),
        uniform_log_prob=None if means is None else sum_scored(means),
    )
