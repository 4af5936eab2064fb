"""The source, spread over the target positions: what a one-pass decoder reads where it has no target."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_copy(states: Tensor, source_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Spread source states evenly over the target positions.

    Target position t of T copies source position ⌊(t + ½)·S/T⌋.

    Args:
        states: Source states, shape (B, S, D).
        source_lengths: Real source lengths, shape (B,).
        target_lengths: Target lengths, at least 1, shape (B,).

    Returns:
        Copied states, shape (B, T, D) with T the longest target; values after a target's end are arbitrary.

    Example:
        >>> uniform_copy(torch.tensor([[[1.0], [2.0]]]), torch.tensor([2]), torch.tensor([4]))[0, :, 0]
        tensor([1., 1., 2., 2.])

    References:
        Gu et al. 2018, "Non-autoregressive neural machine translation", section 3.1.
    """
    positions = torch.arange(int(target_lengths.max()), device=states.device)
    # Integer arithmetic, because rounding must not depend on the device.
    source = (2 * positions[None, :] + 1) * source_lengths[:, None] // (2 * target_lengths[:, None])
    source = torch.minimum(source, source_lengths[:, None] - 1)
    return states.gather(1, source[:, :, None].expand(-1, -1, states.shape[2]))
