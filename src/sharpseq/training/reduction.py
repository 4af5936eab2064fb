"""From a loss of each sequence to one number, the same under accumulation and data parallelism."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.scoring import IGNORED, aligned_labels


@dataclass(frozen=True)
class Window:
    """Totals of one optimiser update: all micro-batches of the accumulation window, on all processes.

    Args:
        num_sequences: Sequences in the window.
        num_tokens: Scored target tokens in the window.
        weight_mean: Mean weight f'(g) under the reduction, where the loss is to be divided by it.
    """

    num_sequences: float
    num_tokens: float
    weight_mean: float = 1.0


def count_tokens(labels: Tensor, *, shifted: bool, sequence_ids: Tensor | None = None) -> Tensor:
    """Return the number of scored tokens of each sequence, shape (B,), or (S,) for S sequences in packed rows.

    Args:
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        shifted: Whether the model predicts label t at position t − 1, so that the first is never scored.
        sequence_ids: Of packed rows, whose labels are always shifted: the number of the sequence that each label
            belongs to, from 0 over the whole batch, shape (B, T).

    Example:
        >>> labels = torch.tensor([[5, 6, 7, 5, 6]])
        >>> count_tokens(labels, shifted=True, sequence_ids=torch.tensor([[0, 0, 0, 1, 1]]))
        tensor([2, 1])
    """
    if sequence_ids is None:
        return aligned_labels(labels, shifted=shifted).ne(IGNORED).sum(1)
    is_scored = aligned_labels(labels, shifted=True, sequence_ids=sequence_ids) != IGNORED
    return torch.bincount(sequence_ids[is_scored], minlength=int(sequence_ids.max()) + 1)


def reduce_losses(losses: Tensor, num_tokens: Tensor, *, reduction: str, window: Window) -> Tensor:
    r"""Return this micro-batch's share of the window's loss, a scalar; the shares of a window add up to its mean.

    Args:
        losses: Loss of each sequence, shape (B,).
        num_tokens: Scored tokens of each sequence, shape (B,).
        reduction: ``sequence_mean``, :math:`\sum_i \ell_i / N`, or ``token_mean``,
            :math:`\sum_i T_i \ell_i / \sum_i T_i`.
        window: Totals of the window.

    Example:
        >>> losses, tokens = torch.tensor([1.0, 4.0]), torch.tensor([3, 1])
        >>> reduce_losses(losses, tokens, reduction="token_mean", window=Window(2, 4))
        tensor(1.7500)
    """
    if reduction == "token_mean":
        return (losses * num_tokens).sum() / max(window.num_tokens, 1)
    return losses.sum() / max(window.num_sequences, 1)


def sequence_shares(num_tokens: Tensor, *, reduction: str) -> Tensor:
    """Return how much each sequence counts under a reduction, unnormalised, shape (B,), float64."""
    return (num_tokens if reduction == "token_mean" else torch.ones_like(num_tokens)).double()
