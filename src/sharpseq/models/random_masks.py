"""Which target tokens are masked: how many, then which ones, both uniformly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sharpseq.decoding.lowest_values import lowest


class WeightedMask(NamedTuple):
    """A random mask of each target, with the weight that its part of a sum over numbers of masked tokens has.

    Args:
        masked: True for masked positions, shape (B, T).
        weights: What the sum over the masked tokens is multiplied by, shape (B,); 0 where nothing is masked.
    """

    masked: Tensor
    weights: Tensor


def random_mask(scored: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw how many tokens of each target to mask, uniformly from 1 to its length, then which ones, uniformly.

    Args:
        scored: True for real target positions, shape (B, T).
        generator: Source of randomness; the global one by default.

    Returns:
        True for masked positions, shape (B, T); a target of length 0 has none.

    Example:
        >>> random_mask(torch.tensor([[True, False]]))
        tensor([[ True, False]])

    References:
        Ghazvininejad et al. 2019, section 3.1.
    """
    draws = torch.rand(len(scored), 1 + scored.shape[1], generator=generator)
    return stratified_mask(scored, draws, stratum=0, num_strata=1).masked


def stratified_mask(scored: Tensor, draws: Tensor, *, stratum: int, num_strata: int) -> WeightedMask:
    r"""Mask a number of tokens from one stratum of 1…T, so that the strata together estimate a sum over all numbers.

    The numbers 1…T fall into min(``num_strata``, T) strata of nearly equal size n. In one of them a number k is drawn
    uniformly, then k positions, uniformly. With weights n/k, the expectation of :math:`\sum_m \frac{n_m}{k_m}
    \sum_{i \in S_m} c_i` over the strata m is :math:`\sum_{k=1}^T \frac1k \mathbb E_{|S|=k} \sum_{i \in S} c_i`. With T
    strata every number is taken once, and only the positions are random.

    Args:
        scored: True for real target positions, shape (B, T).
        draws: Uniform numbers in [0, 1): one for k, then one for each position, shape (B, 1 + T).
        stratum: m, counted from 0; a target with fewer strata has nothing masked.
        num_strata: Most strata of a target, at least 1.

    Example:
        >>> scored, draws = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0.9, 0.3, 0.1, 0.4, 0.2]])
        >>> stratified_mask(scored, draws, stratum=0, num_strata=2)
        WeightedMask(masked=tensor([[False,  True, False,  True]]), weights=tensor([1.]))
    """
    draws = draws.to(scored.device)
    lengths = scored.sum(1)
    strata = lengths.clamp(min=1, max=num_strata)
    low, high = stratum * lengths // strata, (stratum + 1) * lengths // strata
    counts = low + 1 + (draws[:, 0] * (high - low)).floor().long()
    counts = torch.where((stratum < strata) & (lengths > 0), counts, 0)
    weights = (high - low).to(draws.dtype) * (counts > 0) / counts.clamp(min=1)
    return WeightedMask(lowest(draws[:, 1:], counts, among=scored), weights)
