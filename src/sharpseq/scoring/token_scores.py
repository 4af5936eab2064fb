"""Sequence scores of models that predict one token at a position."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.scoring.chosen_log_probs import chosen_log_probs, entropies
from sharpseq.scoring.head_scores import LogitMap, head_scores
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
    entropy: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float = 1.0,
    sequence_ids: Tensor | None = None,
) -> SequenceScores:
    r"""Score sequences from hidden states and an output head, in memory that grows with neither T·V nor B·V.

    Args:
        hidden: Hidden states aligned with the labels, shape (B, T, D).
        weight: Output embedding, shape (V, D).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        bias: Output bias, shape (V,).
        uniform: Also compute ``uniform_log_prob``, which label smoothing needs.
        entropy: Also compute ``entropy``, without gradient.
        temperature: Divides the logits; greater than 0.
        softcap: If given, logits are c·tanh(logits/c) before the temperature, as in Gemma 2.
        scale: Multiplies the head's outputs before ``softcap``, as in Cohere.
        sequence_ids: Of packed rows: the number of the sequence that each label belongs to, from 0 over the whole
            batch, shape (B, T).

    Returns:
        Scores in float32 (float64 for float64 inputs), shape (B,) each, or (S,) for S packed sequences.

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
    scored = check_labels(labels, vocabulary=len(weight))
    of_tokens = head_scores(
        hidden[scored],
        weight,
        labels[scored],
        bias=bias,
        logit_map=LogitMap(scale, softcap),
        temperature=temperature,
        uniform=uniform,
        entropy=entropy,
    )
    return sum_tokens(
        scored,
        of_tokens.log_prob,
        uniform_log_prob=of_tokens.mean_log_prob if uniform else None,
        entropy=of_tokens.entropy if entropy else None,
        sequence_ids=sequence_ids,
    )


def scores_from_logits(
    logits: Tensor,
    labels: Tensor,
    *,
    uniform: bool = False,
    entropy: bool = False,
    sequence_ids: Tensor | None = None,
) -> SequenceScores:
    """Score sequences from logits aligned with the labels.

    Args:
        logits: Unnormalised log-probabilities, shape (B, T, V).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        uniform: Also compute ``uniform_log_prob``.
        entropy: Also compute ``entropy``, without gradient.
        sequence_ids: As in `sequence_scores`.

    Returns:
        Scores in at least float32, shape (B,) each, or (S,) for S packed sequences.

    Raises:
        ValueError: If shapes disagree or a label is outside the vocabulary.

    Example:
        >>> scores_from_logits(torch.zeros(1, 2, 2), torch.tensor([[0, 1]])).log_prob
        tensor([-1.3863])
    """
    if logits.shape[:2] != labels.shape:
        raise ValueError(f"`logits` {tuple(logits.shape)} and `labels` {tuple(labels.shape)} must agree in (B, T)")
    scored = check_labels(labels, vocabulary=logits.shape[-1])
    # Padding is scored too and left out of the sum: picking out the rest would copy the logits, and give every batch a
    # shape of its own, for which a CPU compiles new kernels.
    chosen = labels.masked_fill(~scored, 0).view(-1, 1)
    flat = logits.flatten(0, 1)
    log_probs, means = chosen_log_probs(flat, chosen, uniform=uniform)
    picked = scored.flatten()
    return sum_tokens(
        scored,
        log_probs[picked, 0],
        uniform_log_prob=None if means is None else means[picked],
        entropy=entropies(flat)[picked] if entropy else None,
        sequence_ids=sequence_ids,
    )


def check_labels(labels: Tensor, *, vocabulary: int) -> Tensor:
    """Return which labels (B, T) are scored.

    Raises:
        ValueError: If one of them is outside the vocabulary.
    """
    scored = labels != IGNORED
    outside = scored & ((labels < 0) | (labels >= vocabulary))
    if outside.any():
        raise ValueError(
            f"`labels` must be -100 or in [0, {vocabulary}), the vocabulary; got {int(labels[outside][0])}"
        )
    return scored


def sum_tokens(
    scored: Tensor,
    log_prob: Tensor,
    *,
    uniform_log_prob: Tensor | None = None,
    entropy: Tensor | None = None,
    sequence_ids: Tensor | None = None,
) -> SequenceScores:
    """Add up the scores of tokens to those of sequences.

    Args:
        scored: Which positions are scored, shape (B, T); N of them.
        log_prob: Log-probabilities in nats, row by row, shape (N,).
        uniform_log_prob: Means over the vocabulary, shape (N,).
        entropy: Entropies, shape (N,).
        sequence_ids: As in `sequence_scores`; by default every row is a sequence.

    Returns:
        Scores of shape (B,), or (S,).

    Raises:
        ValueError: If ``sequence_ids`` has another shape than ``scored`` or a negative number.
    """
    if sequence_ids is None:
        num_sequences = len(scored)
        owners = torch.arange(num_sequences, device=scored.device)[:, None].expand_as(scored)[scored]
    else:
        if sequence_ids.shape != scored.shape or (sequence_ids < 0).any():
            raise ValueError(
                f"`sequence_ids` must be numbers from 0 of shape {tuple(scored.shape)}; got shape "
                f"{tuple(sequence_ids.shape)}"
            )
        num_sequences = int(sequence_ids.max()) + 1 if sequence_ids.numel() else 0
        owners = sequence_ids[scored].long()

    def add_up(values: Tensor) -> Tensor:
        return values.new_zeros(num_sequences).index_add(0, owners, values)

    return SequenceScores(
        log_prob=add_up(log_prob),
        num_tokens=torch.bincount(owners, minlength=num_sequences),
        uniform_log_prob=None if uniform_log_prob is None else add_up(uniform_log_prob),
        entropy=None if entropy is None else add_up(entropy),
    )
