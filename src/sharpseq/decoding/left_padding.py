"""Padding to the left, where a search continues prompts of several lengths."""

from __future__ import annotations

from torch import Tensor


def pad_left(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of every row, wherever it is, to the left, shape (B, S) each.

    Raises:
        ValueError: If a row is nothing but padding.

    Example:
        >>> import torch
        >>> pad_left(torch.tensor([[5, 6, 1]]), torch.tensor([[1, 1, 0]]))
        (tensor([[1, 5, 6]]), tensor([[0, 1, 1]]))
    """
    mask = attention_mask.long()
    empty = mask.sum(1) == 0
    if empty.any():
        raise ValueError(f"`batch` must have a prompt in every row; row {int(empty.nonzero()[0])} has no token")
    order = mask.argsort(dim=1, stable=True)
    return input_ids.gather(1, order), mask.gather(1, order)
