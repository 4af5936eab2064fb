"""The lowest values of each row: which tokens are written, masked again or shown."""

from __future__ import annotations

import torch
from torch import Tensor


def lowest(values: Tensor, counts: Tensor, *, among: Tensor) -> Tensor:
    """Return True for the lowest values of each row.

    Args:
        values: Numbers to rank, shape (B, T); of equal ones the first is the lowest.
        counts: How many to choose, shape (B,); more than there are is all of them.
        among: True for those that can be chosen, shape (B, T).

    Example:
        >>> among = torch.tensor([[True, True, True, False]])
        >>> lowest(torch.tensor([[-1.0, -3.0, -2.0, -9.0]]), torch.tensor([2]), among=among)
        tensor([[False,  True,  True, False]])
    """
    order = values.masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    ranks = order.argsort(dim=1)
    return (ranks < counts[:, None]) & among
