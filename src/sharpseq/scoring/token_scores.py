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

    Only scored positions are projected to the vocabulary, so padding costs nothing.

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
    rows, targets = _scored_positions(labels, weight.shape[0])
    logits = F.linear(hidden[rows], weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if temperature != 1.0:
        logits = logits / temperature
    return _sum_by_sequence(logits, targets, rows[0], len(labels), uniform=uniform)


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
    rows, targets = _scored_positions(labels, logits.shape[-1])
    return _sum_by_sequence(logits[rows], targets, rows[0], len(labels), uniform=uniform)


def _scored_positions(labels: Tensor, vocab_size: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    sequence, position = torch.nonzero(labels != IGNORED, as_tuple=True)
    targets = labels[sequence, position]
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) < vocab_size):
        raise ValueError(
            f"`labels` must be -100 or in [0, {vocab_size}), the vocabulary; "
            f"got {int(targets.min())} to {int(targets.max())}"
        )
    return (sequence, position), targets


def _sum_by_sequence(
    logits: Tensor, targets: Tensor, sequence: Tensor, batch_size: int, *, uniform: bool
) -> SequenceScores:
    """Sum the log-probabilities of scored positions (N, V) by the sequence that each belongs to."""
    log_probs, means = chosen_log_probs(logits, targets[:, None], uniform=uniform)
    zeros = log_probs.new_zeros(batch_size)
    return SequenceScores(
        log_prob=zeros.index_add(0, sequence, log_probs[:, 0]),
        num_tokens=torch.bincount(sequence, minlength=batch_size),
        uniform_log_prob=None if means is None else zeros.index_add(0, sequence, means),
    )
