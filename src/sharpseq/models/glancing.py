"""Glancing: in training, a model is shown some of the target tokens that it would get wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.decoding.lowest_values import lowest
from sharpseq.scoring import IGNORED


def choose_glances(
    aligned_ids: Tensor, num_wrong: Tensor, *, ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    r"""Choose :math:`\mathrm{round}(\rho \cdot \text{wrong})` of the positions that have a target token, uniformly.

    Args:
        aligned_ids: The target token of each position, shape (B, P); −100 for positions without one.
        num_wrong: Target tokens that the model would get wrong by itself, shape (B,).
        ratio: ρ, in [0, 1].
        generator: Source of randomness; the global one by default.

    Returns:
        The tokens to show, shape (B, P); −100 where none is shown.

    Example:
        >>> choose_glances(torch.tensor([[5, -100, 6]]), torch.tensor([2]), ratio=1.0)
        tensor([[   5, -100,    6]])

    References:
        Qian et al. 2021, "Glancing Transformer for non-autoregressive neural machine translation", section 3.2.
    """
    draws = torch.rand(aligned_ids.shape, generator=generator).to(aligned_ids.device)
    counts = (ratio * num_wrong).round().long()
    return aligned_ids.masked_fill(~lowest(draws, counts, among=aligned_ids != IGNORED), IGNORED)


def with_glances(states: Tensor, embedded: Tensor, glanced_ids: Tensor) -> Tensor:
    """Return the decoder's input (B, P, D) with embeddings of the tokens that are shown, in place of its states.

    Args:
        states: The ordinary input, shape (B, P, D).
        embedded: Embeddings of ``glanced_ids``, shape (B, P, D); arbitrary where nothing is shown.
        glanced_ids: As `choose_glances` returns them.
    """
    return torch.where((glanced_ids != IGNORED)[:, :, None], embedded.to(states.dtype), states)
