"""Removal of repeated tokens, the usual post-processing of one-pass translations."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.scoring import length_mask


def first_of_repeats(tokens: Tensor, num_tokens: Tensor) -> Tensor:
    """Return True for each real token that differs from the one before it, shape (B, T).

    Args:
        tokens: Token ids, shape (B, T).
        num_tokens: Lengths in tokens, shape (B,).

    Example:
        >>> first_of_repeats(torch.tensor([[5, 5, 6, 5]]), torch.tensor([4]))
        tensor([[ True, False,  True,  True]])

    References:
        Lee et al. 2018; Lee, Shu and Cho 2020, section 4.1.
    """
    kept = length_mask(num_tokens, width=tokens.shape[1])
    kept[:, 1:] &= tokens[:, 1:] != tokens[:, :-1]
    return kept


def pack_left(tokens: Tensor, kept: Tensor, *, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Move kept tokens to the left and pad after them.

    Args:
        tokens: Token ids, shape (B, T).
        kept: Which of them to keep, shape (B, T) bool.
        pad_token_id: What fills the rest.

    Returns:
        Sequences (B, T) and their lengths (B,).

    Example:
        >>> pack_left(torch.tensor([[5, 5, 6]]), torch.tensor([[True, False, True]]), pad_token_id=1)
        (tensor([[5, 6, 1]]), tensor([2]))
    """
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    num_tokens = kept.sum(1)
    packed = tokens.gather(1, order)
    return packed.masked_fill(~length_mask(num_tokens, width=tokens.shape[1]), pad_token_id), num_tokens
