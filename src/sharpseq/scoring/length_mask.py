"""Which positions of a padded batch are real."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, *, width: int) -> Tensor:
    """Return True for the first ``lengths`` (B,) of ``width`` positions, shape (B, width).

    Example:
        >>> length_mask(torch.tensor([1, 2]), width=3)
        tensor([[ True, False, False],
                [ True,  True, False]])
    """
    return torch.arange(width, device=lengths.device) < lengths[:, None]
