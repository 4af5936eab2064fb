"""Scores of models that predict one token at a position."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from sharpseq.scoring.chosen_log_probs import chosen_log_probs, entropies
from sharpseq.scoring.head_scores import LogitMap, score_rows
from sharpseq.scoring.requests import LABELS_ONLY, ScoreRequest
from sharpseq.scoring.row_statistics import position_scores, statistics_of_logits
from sharpseq.scoring.sequence_scores import SequenceScores, TokenScores

IGNORED = -100
"""The label of a position that is not scored, as everywhere in PyTorch and transformers."""


def score_hidden_states(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    scale: float = 1.0,
    sequence_ids: Tensor | None = None,
    request: ScoreRequest = LABELS_ONLY,
) -> SequenceScores:
    r"""Score sequences from hidden states and an output head, in memory that grows with neither T·V nor B·V.

    Args:
        hidden: Hidden states aligned with the labels, shape (B, T, D).
        weight: Output embedding, shape (V, D).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        bias: Output bias, shape (V,).
        temperature: Divides the logits; greater than 0.
        softcap: If given, logits are c·tanh(logits/c) before the temperature, as in Gemma 2.
        scale: Multiplies the head's outputs before ``softcap``, as in Cohere.
        sequence_ids: Of packed rows: the number of the sequence that each label belongs to, from 0 over the whole
            batch, shape (B, T).
        request: What else to compute.

    Returns:
        Scores in float32 (float64 for float64 inputs), shape (B,) each, or (S,) for S packed sequences; those of single
        tokens in ``tokens``.

    Raises:
        ValueError: If shapes disagree, a label is outside the vocabulary, or ``temperature`` is not positive.

    Example:
        >>> import torch
        >>> hidden, weight = torch.zeros(1, 2, 4), torch.zeros(3, 4)
        >>> scores = score_hidden_states(hidden, weight, torch.tensor([[2, -100]]))
        >>> scores.log_prob, scores.num_tokens
        (tensor([-1.0986]), tensor([1]))
    """
    if hidden.shape[:2] != labels.shape:
        raise ValueError(f"`hidden` {tuple(hidden.shape)} and `labels` {tuple(labels.shape)} must agree in (B, T)")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be greater than 0; got {temperature}")
    scored = check_labels(labels, vocabulary=len(weight))
    logit_map = LogitMap(scale, softcap)
    rows = score_rows(
        hidden[scored],
        weight,
        labels[scored],
        bias=bias,
        logit_map=logit_map,
        temperature=temperature,
        request=request,
    )
    scores = scores_of_rows(scored, *rows, sequence_ids=sequence_ids, request=request)
    if request.positions:
        head = partial(_logits, weight=weight, bias=bias, logit_map=logit_map, temperature=temperature)
        positions = position_scores(head, hidden, scored, vocab_size=len(weight), request=request)
        scores = replace(scores, positions=positions)
    return scores


def _logits(hidden: Tensor, *, weight: Tensor, bias: Tensor | None, logit_map: LogitMap, temperature: float) -> Tensor:
    return logit_map(F.linear(hidden, weight, bias)) / temperature


def score_logits(
    logits: Tensor, labels: Tensor, *, sequence_ids: Tensor | None = None, request: ScoreRequest = LABELS_ONLY
) -> SequenceScores:
    """Score sequences from logits aligned with the labels.

    Args:
        logits: Unnormalised log-probabilities, shape (B, T, V).
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        sequence_ids: As in `score_hidden_states`.
        request: What else to compute.

    Returns:
        Scores in at least float32, shape (B,) each, or (S,) for S packed sequences; those of single tokens in
        ``tokens``.

    Raises:
        ValueError: If shapes disagree or a label is outside the vocabulary.

    Example:
        >>> import torch
        >>> score_logits(torch.zeros(1, 2, 2), torch.tensor([[0, 1]])).log_prob
        tensor([-1.3863])
    """
    if logits.shape[:2] != labels.shape:
        raise ValueError(f"`logits` {tuple(logits.shape)} and `labels` {tuple(labels.shape)} must agree in (B, T)")
    scored = check_labels(labels, vocabulary=logits.shape[-1])
    # Padding is scored too and left out of the sum: picking out the rest would copy the logits, and give every batch a
    # shape of its own, for which a CPU compiles new kernels.
    chosen = labels.masked_fill(~scored, 0).view(-1, 1)
    flat, picked = logits.flatten(0, 1), scored.flatten()
    log_probs, means = chosen_log_probs(flat, chosen, with_mean=request.vocab_mean)
    scores = scores_of_rows(
        scored,
        log_probs[picked, 0],
        None if means is None else means[picked],
        entropies(flat)[picked] if request.entropy else None,
        sequence_ids=sequence_ids,
        request=request,
    )
    positions = statistics_of_logits(logits, scored, request=request)
    return scores if positions is None else replace(scores, positions=positions)


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


def scores_of_rows(
    scored: Tensor,
    log_prob: Tensor,
    vocab_mean_log_prob: Tensor | None,
    entropy: Tensor | None,
    *,
    sequence_ids: Tensor | None,
    request: ScoreRequest,
) -> SequenceScores:
    """Return the scores of sequences, given those of their scored tokens row by row.

    Args:
        scored: Which positions are scored, shape (B, T); N of them.
        log_prob: Log-probabilities in nats, shape (N,).
        vocab_mean_log_prob: Means over the vocabulary, shape (N,); read if the request asks for them.
        entropy: Entropies, shape (N,); likewise.
        sequence_ids: As in `score_hidden_states`; by default every row is a sequence.
        request: What to keep.

    Raises:
        ValueError: If ``sequence_ids`` has another shape than ``scored`` or a negative number.
    """
    if sequence_ids is not None and (sequence_ids.shape != scored.shape or (sequence_ids < 0).any()):
        raise ValueError(
            f"`sequence_ids` must be numbers from 0 of shape {tuple(scored.shape)}; got shape "
            f"{tuple(sequence_ids.shape)}"
        )

    def in_place(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.new_zeros(scored.shape).masked_scatter(scored, values)

    tokens = TokenScores(
        log_probs=log_prob.new_zeros(scored.shape).masked_scatter(scored, log_prob),
        mask=scored,
        sequence_ids=sequence_ids,
        vocab_mean_log_probs=in_place(vocab_mean_log_prob) if request.vocab_mean else None,
        entropies=in_place(entropy) if request.entropy else None,
    )
    return tokens.to_sequences()
