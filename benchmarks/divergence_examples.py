"""Targets that are too rich for their models, small enough that every model can be tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from divergence_optima import Box, Example
from torch import Tensor

Mode = tuple[float, tuple[float, ...], float]
"""Share, mean and standard deviation of a round normal distribution."""

TWO_MODES: tuple[Mode, ...] = ((0.7, (-2.0,), 0.6), (0.3, (2.0,), 0.6))
THREE_MODES: tuple[Mode, ...] = ((0.4, (-1.8, -1.4), 0.6), (0.35, (-1.8, 1.4), 0.6), (0.25, (2.8, 0.0), 0.6))
LINE = torch.linspace(-10, 10, 201, dtype=torch.float64)
PLANE = torch.cartesian_prod(*[torch.linspace(-6, 6, 25, dtype=torch.float64)] * 2)
_SDS = (math.log(0.2), math.log(6))


def two_modes(modes: Sequence[Mode] = TWO_MODES) -> Example:
    """Return two modes on a line, and one normal distribution; parameters are μ and log σ."""
    low, high = (torch.tensor((mean, log_sd), dtype=torch.float64) for mean, log_sd in zip((-5, 5), _SDS, strict=True))
    return normals("two modes on a line", modes, LINE[:, None], Box(low, high, (41, 31)))


def three_modes() -> Example:
    """Return three modes in a plane, two of them near each other, and one round normal distribution."""
    low = torch.tensor((-4, -3, math.log(0.4)), dtype=torch.float64)
    high = torch.tensor((4, 3, math.log(4)), dtype=torch.float64)
    return normals("three modes in a plane", THREE_MODES, PLANE, Box(low, high, (17, 13, 9)))


def normals(name: str, modes: Sequence[Mode], points: Tensor, box: Box) -> Example:
    """Return a mixture of normal distributions, and one of them as the model; parameters are its mean and log σ.

    Both are discrete: their densities at points of shape (G, D), scaled to a sum of 1.
    """
    dimension = points.shape[1]

    def exponents(squared: Tensor, log_sd: Tensor) -> Tensor:
        return -squared / 2 * (-2 * log_sd).exp()

    log_shares, means, sds = (torch.tensor(each, dtype=torch.float64) for each in zip(*modes, strict=True))
    squared = ((points - means[:, None]) ** 2).sum(-1)
    parts = exponents(squared, sds.log()[:, None]) - dimension * sds.log()[:, None] + log_shares.log()[:, None]

    def log_q(parameters: Tensor) -> Tensor:
        mean, log_sd = parameters[:, None, :dimension], parameters[:, dimension:]
        return torch.log_softmax(exponents(((points - mean) ** 2).sum(-1), log_sd), -1)

    def intervals(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        from_low, from_high = points - low[:, None, :dimension], points - high[:, None, :dimension]
        is_inside = from_low * from_high < 0
        nearest = torch.where(is_inside, 0.0, torch.minimum(from_low.abs(), from_high.abs()))
        farthest = torch.maximum(from_low.abs(), from_high.abs())
        least = exponents((farthest**2).sum(-1), low[:, dimension:])
        most = exponents((nearest**2).sum(-1), high[:, dimension:])
        return least - most.logsumexp(-1, keepdim=True), most - least.logsumexp(-1, keepdim=True)

    return Example(name, torch.log_softmax(parts.logsumexp(0), -1), log_q, intervals, box)


WORDS = ("a", "b", "c")
START = (0.6, 0.35, 0.05)
NEXT = ((0.05, 0.9, 0.05), (0.9, 0.05, 0.05), (0.3, 0.3, 0.4))
"""A bigram model: a first word, then each word given the one before it. a and b alternate; c is rare."""

NUM_POSITIONS = 3


def sentences() -> Tensor:
    """Return all sentences as words, shape (V^T, T)."""
    return torch.cartesian_prod(*[torch.arange(len(WORDS))] * NUM_POSITIONS)


def bigram() -> Example:
    """Return a bigram model over sentences, and students that choose each word on its own.

    Parameters are logits of all words but the last, at each position.
    """
    words = sentences()
    start, following = torch.tensor(START, dtype=torch.float64), torch.tensor(NEXT, dtype=torch.float64)
    log_p = start[words[:, 0]].log() + following[words[:, :-1], words[:, 1:]].log().sum(-1)
    num_free = len(WORDS) - 1

    def log_q(parameters: Tensor) -> Tensor:
        free = parameters.view(-1, NUM_POSITIONS, num_free)
        log_probs = torch.cat([free, torch.zeros_like(free[..., :1])], -1).log_softmax(-1)
        return log_probs[:, torch.arange(NUM_POSITIONS), words].sum(-1)

    edge = torch.full((NUM_POSITIONS * num_free,), 10.0, dtype=torch.float64)
    return Example("words chosen on their own", log_p, log_q, None, Box(-edge, edge, (5,) * len(edge)))
