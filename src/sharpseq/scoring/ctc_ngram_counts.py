"""How many of each n-gram CTC expects to write: sums over all alignments, exact for every n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sharpseq.scoring.chosen_log_probs import chosen_log_probs
from sharpseq.scoring.ngram_counts import ngram_scores, windows
from sharpseq.scoring.sequence_scores import NgramScores
from sharpseq.scoring.token_scores import IGNORED

_CHUNK_ELEMENTS = 2**20
"""Probabilities held together: 4 MiB in float32, which stays in the cache of one core."""


def ctc_ngram_counts(logits: Tensor, frame_mask: Tensor, ngrams: Tensor, *, blank: int) -> Tensor:
    r"""Return how many of each n-gram an output of CTC holds, in expectation over all alignments.

    With :math:`r_q(f)` the probability that frame f belongs to the q-th token of an n-gram w whose earlier tokens are
    written, and :math:`\mathrm{gap}_q(f)` that nothing but blanks came after the last one of them,

    .. math::
        \mathrm{first}_q(f) &= p_f(w_q)\,\bigl([w_q \ne w_{q-1}]\, r_{q-1}(f-1) + \mathrm{gap}_q(f)\bigr), \\
        r_q(f) &= \mathrm{first}_q(f) + r_q(f-1)\, p_f(w_q), \\
        \mathrm{gap}_q(f+1) &= \bigl(r_{q-1}(f-1) + \mathrm{gap}_q(f)\bigr)\, p_f(\varnothing),

    from :math:`r_1(f) = p_f(w_1)`, and the count is :math:`\sum_f \mathrm{first}_n(f)`. For n = 2 that is the
    reference's; it has no n > 2 for outputs whose tokens may last several frames.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        frame_mask: True for real frames, shape (B, F); real frames come first.
        ngrams: Token ids, shape (B, G, n).
        blank: Id of the blank.

    Returns:
        Expected counts in at least float32, shape (B, G).

    Raises:
        ValueError: If an id is the blank or outside the vocabulary.

    Note:
        Time and memory are O(B·F·G·n), beside one pass over the logits.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]]) * 9  # "1 2", almost surely
        >>> mask = torch.ones(1, 2, dtype=torch.bool)
        >>> ctc_ngram_counts(logits, mask, torch.tensor([[[1, 2], [2, 1]]]), blank=0)
        tensor([[1., 0.]])

    References:
        Shao and Feng 2022, "Non-monotonic latent alignments for CTC-based non-autoregressive machine translation".
    """
    outside = (ngrams < 0) | (ngrams >= logits.shape[-1]) | (ngrams == blank)
    if outside.any():
        raise ValueError(
            f"`ngrams` must be in [0, {logits.shape[-1]}) and not the blank {blank}; got {int(ngrams[outside][0])}"
        )
    symbols = ngrams.flatten(1)
    probs, blanks = _probabilities(
        _log_probs(logits, torch.cat([torch.full_like(symbols[:, :1], blank), symbols], dim=1)), frame_mask
    )
    return _counts(probs.unflatten(2, ngrams.shape[1:]), blanks, is_repeat=ngrams[:, :, 1:] == ngrams[:, :, :-1])


def ctc_expected_length(logits: Tensor, frame_mask: Tensor, *, blank: int) -> Tensor:
    r"""Return the expected number of tokens of an output, in at least float32, shape (B,).

    .. math:: \mathbb E|y| = \sum_f \sum_{v \ne \varnothing} p_f(v)\,(1 - p_{f-1}(v))

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        frame_mask: True for real frames, shape (B, F); real frames come first.
        blank: Id of the blank.

    Example:
        >>> logits = torch.zeros(1, 2, 2)  # two frames, blank and one symbol, each 1/2: one token in 3 cases of 4
        >>> ctc_expected_length(logits, torch.ones(1, 2, dtype=torch.bool), blank=0)
        tensor([0.7500])
    """
    _, blanks = _probabilities(
        _log_probs(logits, logits.new_full((len(logits), 1), blank, dtype=torch.long)), frame_mask
    )
    return _expected_length(logits, blanks, frame_mask, blank=blank)


def ctc_target_counts(
    logits: Tensor, frame_mask: Tensor, labels: Tensor, *, blank: int, orders: Sequence[int]
) -> list[Tensor]:
    """Return how often the n-grams of targets stand in an output, in expectation over all alignments.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        frame_mask: True for real frames, shape (B, F); real frames come first.
        labels: Target ids, shape (B·K, T), −100 after the end; the K targets of a source next to each other.
        blank: Id of the blank.
        orders: Lengths of n-grams.

    Returns:
        Of each order the expected counts of the n-grams that begin at each place, shape (B·K, T − n + 1); arbitrary
        after the end.
    """
    num_rows = len(logits)
    symbols = labels.masked_fill(labels == IGNORED, blank).view(num_rows, -1)
    probs, blanks = _probabilities(
        _log_probs(logits, torch.cat([torch.full_like(symbols[:, :1], blank), symbols], dim=1)), frame_mask
    )
    num_targets = len(labels) // num_rows
    of_targets = probs.unflatten(2, (num_targets, -1)).transpose(1, 2).flatten(0, 1)
    blanks = blanks.repeat_interleave(num_targets, 0)
    return [_counts_of_labels(of_targets, blanks, labels, order=order) for order in orders]


def ctc_ngram_scores(
    logits: Tensor, frame_mask: Tensor, labels: Tensor, *, log_probs: Tensor, blank: int, order: int
) -> NgramScores:
    """Compare the n-grams that CTC expects to write with those of targets.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        frame_mask: True for real frames, shape (B, F); real frames come first.
        labels: Target ids, shape (B, T), −100 after the end.
        log_probs: Of the blank and of each label, in nats, shape (B, F, 1 + T); arbitrary after the end.
        blank: Id of the blank.
        order: n, at least 1.
    """
    probs, blanks = _probabilities(log_probs, frame_mask)
    length = _expected_length(logits, blanks, frame_mask, blank=blank)
    num_expected = length - (order - 1)
    if order > 1:
        # An output of l tokens has l − n + 1 n-grams, unless that is negative.
        is_short = _length_probabilities(logits, blanks, frame_mask, blank=blank, most=order - 2)
        num_expected = num_expected + (is_short * torch.arange(order - 1, 0, -1, device=logits.device)).sum(1)
    counts = _counts_of_labels(probs, blanks, labels, order=order)
    return ngram_scores(counts, labels, order=order, num_expected=num_expected, expected_length=length)


def _counts_of_labels(probs: Tensor, blanks: Tensor, labels: Tensor, *, order: int) -> Tensor:
    """Return expected counts (B, T − n + 1) of the n-grams of labels (B, T), with probabilities (B, F, T)."""
    ngrams = windows(labels, order)
    return _counts(
        windows(probs.transpose(1, 2), order).transpose(1, 2), blanks, is_repeat=ngrams[:, :, 1:] == ngrams[:, :, :-1]
    )


def _log_probs(logits: Tensor, symbols: Tensor) -> Tensor:
    """Return the log-probabilities (B, F, A) of symbols (B, A) at each frame."""
    of_row = symbols[:, None].expand(-1, logits.shape[1], -1)
    flat, _ = chosen_log_probs(logits.flatten(0, 1), of_row.flatten(0, 1))
    log_probs: Tensor = flat.unflatten(0, logits.shape[:2])
    return log_probs


def _probabilities(log_probs: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities of tokens (B, F, A) and of the blank (B, F): padding surely writes nothing."""
    probs = log_probs.exp()
    return probs[:, :, 1:].masked_fill(~frame_mask[:, :, None], 0), probs[:, :, 0].masked_fill(~frame_mask, 1)


def _counts(probs: Tensor, blanks: Tensor, *, is_repeat: Tensor) -> Tensor:
    """Return expected counts (B, G).

    Args:
        probs: Of each token of each n-gram at each frame, shape (B, F, G, n).
        blanks: Of the blank at each frame, shape (B, F).
        is_repeat: Whether a token equals the one before it, shape (B, G, n − 1).
    """
    if probs.shape[3] == 1:
        single = probs[..., 0]
        return single.sum(1) - (single[:, 1:] * single[:, :-1]).sum(1)
    follows = (~is_repeat).to(probs)
    run = torch.zeros_like(probs[:, 0])
    gap = torch.zeros_like(follows)
    total = torch.zeros_like(probs[:, 0, :, 0])
    for prob, blank in zip(probs.unbind(1), blanks[:, :, None, None].unbind(1), strict=True):
        before = run[..., :-1]
        first = prob[..., 1:] * (follows * before + gap)
        total = total + first[..., -1]
        gap = (before + gap) * blank
        run = torch.cat([prob[..., :1], first + run[..., 1:] * prob[..., 1:]], dim=-1)
    return total


def _expected_length(logits: Tensor, blanks: Tensor, frame_mask: Tensor, *, blank: int) -> Tensor:
    overlap: Tensor = _NeighbourOverlap.apply(logits, blank)
    return (1 - blanks).sum(1) - (overlap * frame_mask[:, 1:]).sum(1)


def _length_probabilities(logits: Tensor, blanks: Tensor, frame_mask: Tensor, *, blank: int, most: int) -> Tensor:
    """Return the probabilities that an output has 0, 1, …, ``most`` tokens, shape (B, most + 1)."""
    if most == 0:
        return blanks.prod(1, keepdim=True)
    parts: list[Tensor] = [
        checkpoint(_chunk_of_lengths, logits[rows], blanks[rows], frame_mask[rows], blank, most, use_reentrant=False)
        for rows in _chunks(logits)
    ]
    return torch.cat(parts)


def _chunk_of_lengths(logits: Tensor, blanks: Tensor, frame_mask: Tensor, blank: int, most: int) -> Tensor:
    probs = torch.softmax(logits, 2, dtype=blanks.dtype)
    is_blank = torch.arange(logits.shape[2], device=logits.device) == blank
    tokens = probs.masked_fill(is_blank | ~frame_mask[:, :, None], 0)
    # After the frames so far: l tokens and the last frame is a blank, (B, 1); or the last one of them, v, (B, V).
    after_blank = [torch.full_like(blanks[:, :1], float(length == 0)) for length in range(most + 1)]
    after_token = [torch.zeros_like(tokens[:, 0]) for _ in range(most + 1)]
    for prob, silent in zip(tokens.unbind(1), blanks[:, :, None].unbind(1), strict=True):
        sums = [each.sum(1, keepdim=True) for each in after_token]
        grown = [
            prob * (after_token[n] + after_blank[n - 1] + sums[n - 1] - after_token[n - 1]) for n in range(1, most + 1)
        ]
        after_blank = [silent * (each + total) for each, total in zip(after_blank, sums, strict=True)]
        after_token = [after_token[0], *grown]
    return torch.cat(after_blank, 1) + torch.stack(after_token, 1).sum(2)


class _NeighbourOverlap(torch.autograd.Function):
    r"""Probability that a frame writes the same token as the one before it, :math:`\sum_v p_f(v)\, p_{f-1}(v)`.

    From logits (B, F, V) to (B, F − 1), a few sentences at a time; the backward computes the probabilities again.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, blank: int) -> Tensor:
        parts = []
        for rows in _chunks(logits):
            tokens = _token_probs(logits[rows], blank)[0]
            parts.append((tokens[:, 1:] * tokens[:, :-1]).sum(2))
        overlap = torch.cat(parts)
        ctx.save_for_backward(logits, overlap)
        ctx.blank = blank
        return overlap

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        logits, overlap = ctx.saved_tensors
        # Each frame has a neighbour before it and one after it.
        before, after = F.pad(grad_output, (1, 0))[:, :, None], F.pad(grad_output, (0, 1))[:, :, None]
        mean = (before * F.pad(overlap, (1, 0))[:, :, None]) + (after * F.pad(overlap, (0, 1))[:, :, None])
        grad_logits = torch.empty_like(logits)
        for rows in _chunks(logits):
            tokens, blanks = _token_probs(logits[rows], ctx.blank)
            slope = (-mean[rows]).expand_as(tokens).clone()
            slope[:, 1:].addcmul_(before[rows, 1:], tokens[:, :-1])
            slope[:, :-1].addcmul_(after[rows, :-1], tokens[:, 1:])
            slope.mul_(tokens)
            slope[:, :, ctx.blank] = -mean[rows, :, 0] * blanks
            grad_logits[rows] = slope
        return grad_logits, None


def _token_probs(logits: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Return probabilities of tokens (B, F, V), with 0 for the blank, and those of the blank (B, F)."""
    probs = torch.softmax(logits, 2, dtype=torch.promote_types(logits.dtype, torch.float32))
    blanks = probs[:, :, blank].clone()
    probs[:, :, blank] = 0
    return probs, blanks


def _chunks(logits: Tensor) -> list[slice]:
    step = max(_CHUNK_ELEMENTS // max(logits[0].numel(), 1), 1)
    return [slice(start, start + step) for start in range(0, len(logits), step)]
