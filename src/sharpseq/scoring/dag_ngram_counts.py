"""How many of each n-gram a directed acyclic graph expects to write: sums over all its paths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpseq.scoring.ngram_counts import ngram_scores
from sharpseq.scoring.sequence_scores import NgramScores


def dag_target_counts(probs: Tensor, links: Tensor, writing: Tensor, *, orders: Sequence[int]) -> list[Tensor]:
    r"""Return how often the n-grams of targets stand in an output, in expectation over all paths.

    With π the passing probabilities, :math:`s \leftarrow \pi \circ P(w_1)`, then :math:`s \leftarrow (s E) \circ
    P(w_q)` for the further tokens; the count is the sum of s over the vertices.

    Args:
        probs: Probability of each token of K targets at each vertex, shape (B, K, T, M).
        links: :math:`\log E_{ij}` in nats, shape (B, M, M), −inf for none; only j > i is read.
        writing: True for the vertices between the two ends, shape (B, M).
        orders: Lengths of n-grams.

    Returns:
        Of each order the expected counts of the n-grams that begin at each place, shape (B·K, T − n + 1).
    """
    passing, steps = passing_probabilities(links), _steps(links)
    written = probs * writing[:, None, None]
    found = []
    for order in orders:
        number = max(probs.shape[2] - order + 1, 0)
        state = passing[:, None, None] * written[:, :, :number]
        for place in range(1, order if number else 1):
            moved = _moved(state.flatten(1, 2), steps).unflatten(1, state.shape[1:3])
            state = moved * written[:, :, place : place + number]
        found.append(state.sum(3).flatten(0, 1))
    return found


def dag_num_ngrams(links: Tensor, writing: Tensor, *, order: int) -> Tensor:
    """Return the expected number of n-grams of an output, shape (B,); of order 1 that is its expected length.

    Args:
        links: Log-probability of going from vertex i to j, in nats, shape (B, M, M).
        writing: True for the vertices between the two ends, shape (B, M).
        order: n, at least 1.
    """
    state, steps = passing_probabilities(links) * writing, _steps(links)
    for _ in range(order - 1):
        state = _moved(state[:, None], steps)[:, 0] * writing
    return state.sum(1)


def dag_ngram_scores(match: Tensor, links: Tensor, writing: Tensor, labels: Tensor, *, order: int) -> NgramScores:
    """Compare the n-grams that graphs expect to write with those of targets.

    Args:
        match: Log-probability of each token of the target at each vertex, in nats, shape (B, T, M); arbitrary after the
            end.
        links: Log-probability of going from vertex i to j, in nats, shape (B, M, M).
        writing: True for the vertices between the two ends, shape (B, M).
        labels: Target ids, shape (B, T), −100 after the end.
        order: n, at least 1.
    """
    [counts] = dag_target_counts(match.exp()[:, None], links, writing, orders=[order])
    return ngram_scores(
        counts,
        labels,
        order=order,
        num_expected=dag_num_ngrams(links, writing, order=order),
        expected_length=dag_num_ngrams(links, writing, order=1),
    )


def passing_probabilities(links: Tensor) -> Tensor:
    r"""Return the probability that a path visits each vertex, :math:`e_0^\top (I - E)^{-1}`, shape (B, M).

    Args:
        links: :math:`\log E_{ij}` in nats, shape (B, M, M), −inf for none; only j > i is read.

    Example:
        >>> half = torch.tensor(0.5).log()
        >>> links = torch.full((1, 3, 3), -torch.inf)
        >>> links[0, 0, 1] = links[0, 0, 2] = half
        >>> links[0, 1, 2] = 0
        >>> passing_probabilities(links)
        tensor([[1.0000, 0.5000, 1.0000]])

    References:
        Ma et al. 2023, "Fuzzy alignments in directed acyclic graph for non-autoregressive machine translation", who
        walk over the vertices one by one.
    """
    start = torch.zeros_like(links[:, :, :1])
    start[:, 0] = 1
    identity = torch.eye(links.shape[1], dtype=links.dtype, device=links.device)
    solved: Tensor = torch.linalg.solve_triangular(
        identity - _steps(links).transpose(1, 2), start, upper=False, unitriangular=True
    )
    return solved[:, :, 0]


def _moved(state: Tensor, steps: Tensor) -> Tensor:
    """Return states (B, N, M) one step on, in their own precision even under autocast."""
    with torch.autocast(state.device.type, enabled=False):
        return state @ steps


def _steps(links: Tensor) -> Tensor:
    return links.exp().triu(1)
