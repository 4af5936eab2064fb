"""Sequence scores under connectionist temporal classification: the sum over all alignments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.scoring.chosen_log_probs import chosen_log_probs, entropies
from sharpseq.scoring.ctc_ngram_counts import ctc_ngram_scores
from sharpseq.scoring.length_mask import length_mask
from sharpseq.scoring.requests import LABELS_ONLY, ScoreRequest
from sharpseq.scoring.row_statistics import position_mean, statistics_of_logits
from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import IGNORED


def ctc_frames_needed(labels: Tensor) -> Tensor:
    """Return how many frames each target needs: its length plus one blank between adjacent repeats.

    Args:
        labels: Target ids, shape (B, T), −100 after the end.

    Returns:
        Number of frames, shape (B,).

    Example:
        >>> ctc_frames_needed(torch.tensor([[5, 5, 6, -100]]))
        tensor([4])
    """
    scored = labels != IGNORED
    repeats = (labels[:, 1:] == labels[:, :-1]) & scored[:, 1:]
    return scored.sum(1) + repeats.sum(1)


def score_ctc(
    logits: Tensor, frame_mask: Tensor, labels: Tensor, *, blank: int, request: ScoreRequest = LABELS_ONLY
) -> SequenceScores:
    r"""Score targets by :math:`\log \sum_{a \in \beta^{-1}(y)} \prod_f p_f(a_f)`.

    A target that needs more frames than there are has probability 0: its ``log_prob`` is −inf and no gradient comes
    from it. Whoever calls this counts such sequences; nothing is dropped here.

    Args:
        logits: Unnormalised log-probabilities of frames, shape (B, F, V).
        frame_mask: True for real frames, shape (B, F); real frames come first.
        labels: Target ids without blanks, shape (B, T), −100 after the end; or (B·K, T), K targets of each row of
            logits next to each other, such as samples.
        blank: Id of the blank.
        request: What else to compute. ``vocab_mean_log_prob`` and ``entropy`` are means over frames, times the target
            length, so that the division by ``num_tokens`` that every objective makes gives the mean over frames.

    Returns:
        Scores in at least float32, shape (B,) each, or (B·K,); those of positions are of the B rows of frames.

    Raises:
        ValueError: If a label is the blank or outside the vocabulary, there is no whole number of targets a row, or
            log-probabilities of tokens are asked for.

    Example:
        >>> logits = torch.zeros(1, 2, 2)  # two frames, blank and one symbol, each 1/2: "a" has 3 alignments of 4
        >>> score_ctc(logits, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[1]]), blank=0).log_prob.exp()
        tensor([0.7500])

    References:
        Graves et al. 2006; Saharia et al. 2020, "Non-autoregressive machine translation with latent alignments".
    """
    if request.token_log_probs:
        raise ValueError(
            "the loss reads the log-probability of each token, and CTC scores whole sequences only; choose a loss of "
            "sequences, or a model that predicts one token at a position"
        )
    scored = labels != IGNORED
    outside = scored & ((labels < 0) | (labels >= logits.shape[-1]) | (labels == blank))
    if outside.any():
        raise ValueError(
            f"`labels` must be in [0, {logits.shape[-1]}) and not the blank {blank}; got {int(labels[outside][0])}"
        )
    num_targets, rest = divmod(len(labels), len(logits))
    if rest or not num_targets:
        raise ValueError(f"`labels` must have a multiple of {len(logits)} rows, those of `logits`; got {len(labels)}")
    num_frames, num_tokens = frame_mask.sum(1).repeat_interleave(num_targets), scored.sum(1)
    symbols, targets = _own_alphabet(labels, blank=blank)
    # Padded frames are scored too and left out of the sum: picking out the others would cost more.
    of_row = symbols.view(len(logits), 1, -1).expand(-1, logits.shape[1], -1)
    flat, means = chosen_log_probs(logits.flatten(0, 1), of_row.flatten(0, 1), with_mean=request.vocab_mean)
    chosen = flat.view(*frame_mask.shape, num_targets, -1).transpose(1, 2).flatten(0, 1)
    feasible = ctc_frames_needed(labels) <= num_frames
    log_prob = chosen.new_full((len(labels),), -torch.inf)
    if feasible.any():
        log_prob[feasible] = _AlignmentSum.apply(
            chosen[feasible], targets[feasible], num_frames[feasible], num_tokens[feasible]
        )
    entropy = entropies(logits.flatten(0, 1)) if request.entropy else None
    ngrams = None
    if request.ngram_order:
        if num_targets > 1:
            raise ValueError(f"`labels` must have one target of each row for n-grams; got {num_targets}")
        ngrams = ctc_ngram_scores(logits, frame_mask, labels, log_probs=chosen, blank=blank, order=request.ngram_order)

    def token_mean(values: Tensor) -> Tensor:
        return position_mean(values, frame_mask).repeat_interleave(num_targets) * num_tokens

    return SequenceScores(
        log_prob=log_prob,
        num_tokens=num_tokens,
        vocab_mean_log_prob=None if means is None else token_mean(means),
        entropy=None if entropy is None else token_mean(entropy),
        positions=statistics_of_logits(logits, frame_mask, request=request),
        ngrams=ngrams,
    )


def _own_alphabet(labels: Tensor, *, blank: int) -> tuple[Tensor, Tensor]:
    """Return the few symbols that each sequence's alignments use, and its targets as positions among them.

    Alignments visit the blank and the target's own tokens only, so the sum over them need not see the vocabulary.

    Returns:
        Symbols (B, 1 + T), the blank first, and targets (B, T) in [1, T], equal where tokens are equal.
    """
    targets = labels.masked_fill(labels == IGNORED, blank)
    symbols = torch.cat([targets.new_full((len(targets), 1), blank), targets], dim=1)
    # The first place where a token stands represents all of them.
    first = (targets[:, :, None] == targets[:, None, :]).int().argmax(2)
    return symbols, first + 1


class _AlignmentSum(torch.autograd.Function):
    """`F.ctc_loss` over log-probabilities (B, F, A) that need not sum to 1, with the gradient of its definition.

    PyTorch's own gradient is only right after a log-softmax over the same classes: it adds p to it. Here p is taken
    off again, which leaves minus the posterior of each symbol at each frame.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, targets: Tensor, num_frames: Tensor, num_tokens: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = log_probs.detach().requires_grad_()
            nll = F.ctc_loss(leaf.transpose(0, 1), targets, num_frames, num_tokens, blank=0, reduction="none")
            (slope,) = torch.autograd.grad(nll.sum(), leaf)
        is_frame = length_mask(num_frames, width=log_probs.shape[1])
        posterior = (log_probs.detach().exp() - slope) * is_frame[:, :, None]
        ctx.save_for_backward(posterior)
        return -nll.detach()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (posterior,) = ctx.saved_tensors
        return grad_output[:, None, None] * posterior, None, None, None
