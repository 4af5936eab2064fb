"""The n-grams of targets, and how many of them a model expects to write."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.scoring.sequence_scores import NgramScores
from sharpseq.scoring.token_scores import IGNORED


def windows(values: Tensor, order: int) -> Tensor:
    """Return every ``order`` neighbours of values (B, T, …), shape (B, T − order + 1, …, order).

    Example:
        >>> windows(torch.tensor([[1, 2, 3]]), 2)
        tensor([[[1, 2],
                 [2, 3]]])
    """
    if values.shape[1] < order:
        return values[:, :0, ..., None].expand(*[-1] * values.dim(), order)
    return values.unfold(1, order, 1)


def target_counts(labels: Tensor, order: int) -> Tensor:
    """Return how often each n-gram stands in its target.

    Args:
        labels: Target ids, shape (B, T), −100 after the end.
        order: n, at least 1.

    Returns:
        Counts, shape (B, T − n + 1): those of the n-gram that begins at a place, at the first place where it stands; 0
        where it stands again, and after the end.

    Example:
        >>> target_counts(torch.tensor([[5, 6, 5, 6, -100]]), 2)
        tensor([[2, 1, 0, 0]])
    """
    ngrams = windows(labels, order)
    is_ngram = (ngrams != IGNORED).all(2)
    same = (ngrams[:, :, None] == ngrams[:, None]).all(3) & is_ngram[:, :, None] & is_ngram[:, None]
    earlier = torch.ones(same.shape[1:], dtype=torch.bool, device=labels.device).tril(-1)
    return same.sum(2).masked_fill((same & earlier).any(2), 0)


def clipped_matches(counts: Tensor, labels: Tensor, *, order: int) -> Tensor:
    r"""Return :math:`\sum_g \min(C(g), \#_y g)` over the different n-grams g of each target y, shape (B,).

    Args:
        counts: Expected counts C of the n-grams that begin at each place, shape (B, T − n + 1).
        labels: Target ids, shape (B, T), −100 after the end.
        order: n.

    Example:
        >>> clipped_matches(torch.tensor([[1.5, 0.5, 1.5]]), torch.tensor([[5, 6, 5]]), order=1)
        tensor([2.])
    """
    of_target = target_counts(labels, order)
    return torch.minimum(counts, of_target.to(counts)).masked_fill(of_target == 0, 0).sum(1)


def ngram_scores(
    counts: Tensor, labels: Tensor, *, order: int, num_expected: Tensor, expected_length: Tensor
) -> NgramScores:
    """Compare what a model expects to write with its target.

    Args:
        counts: Expected counts of the n-grams that begin at each place of the target, shape (B, T − n + 1).
        labels: Target ids, shape (B, T), −100 after the end.
        order: n.
        num_expected: Expected number of n-grams of the output, shape (B,).
        expected_length: Expected number of its tokens, shape (B,).

    Example:
        >>> counts = torch.tensor([[1.0, 0.5, 1.0]])
        >>> one = torch.ones(1)
        >>> ngram_scores(counts, torch.tensor([[5, 6, 5]]), order=1, num_expected=one, expected_length=one).matches
        tensor([1.5000])
    """
    num_tokens = (labels != IGNORED).sum(1)
    return NgramScores(
        matches=clipped_matches(counts, labels, order=order),
        num_expected=num_expected,
        expected_length=expected_length,
        num_reference=(num_tokens - order + 1).clamp(min=0),
        num_tokens=num_tokens,
    )
