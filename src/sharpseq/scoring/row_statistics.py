"""Numbers of each distribution over a vocabulary, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sharpseq.scoring.requests import BLOCK, RowStatistic, ScoreRequest
from sharpseq.scoring.sequence_scores import PositionScores

CHUNK_ELEMENTS = 2**26
"""Logits held together: 256 MiB in float32."""


def position_scores(
    head: Callable[[Tensor], Tensor], hidden: Tensor, mask: Tensor, *, vocab_size: int, request: ScoreRequest
) -> PositionScores | None:
    """Return what a request asks for about each position; None where it asks for nothing.

    Args:
        head: From hidden states (N, D) to logits (N, V).
        hidden: Hidden states, shape (B, P, D); or logits, with the identity as head.
        mask: True for the positions that count, shape (B, P).
        vocab_size: V.
        request: What is asked for.
    """
    if not request.positions:
        return None
    found = {
        name: _over_rows(statistic, head, hidden, mask, rows_together=max(CHUNK_ELEMENTS // vocab_size, 1))
        for name, statistic in request.statistics.items()
    }
    if not request.hidden_states:
        return PositionScores(mask, found)
    return PositionScores(mask, found, hidden_states=hidden, head=head)


def _over_rows(
    statistic: RowStatistic, head: Callable[[Tensor], Tensor], hidden: Tensor, mask: Tensor, *, rows_together: int
) -> Tensor:
    flat, places = hidden.flatten(0, 1), mask.flatten().nonzero()[:, 0]

    def values(rows: Tensor) -> Tensor:
        logits = head(flat[places[rows]])
        return statistic(logits.to(torch.promote_types(logits.dtype, torch.float32)), rows)

    sizes = together(mask.sum(1).tolist(), limit=rows_together)
    rows = torch.arange(len(places), device=places.device)
    parts = [checkpoint(values, chunk, use_reentrant=False) for chunk in rows.split(sizes)]
    row_values = torch.cat(parts) if parts else flat.new_zeros(0, dtype=torch.float32)
    return row_values.new_zeros(len(flat)).index_copy(0, places, row_values).view_as(mask)


def logits_at(positions: PositionScores, rows: Tensor) -> Tensor:
    """Return the logits (N, V) of one model at the rows that a `RowStatistic` of another one is asked about.

    Args:
        positions: Scores of the same batch, with hidden states and head.
        rows: What the statistic was given, shape (N,).
    """
    hidden, head = positions.hidden_states, positions.head
    if hidden is None or head is None:
        raise ValueError("`positions` must have hidden states: score with `ScoreRequest(hidden_states=True)`")
    return head(hidden[positions.mask][rows])


def together(counts: Sequence[int], *, limit: int) -> list[int]:
    """Return how many rows are computed together: whole sequences, or blocks of one that is too long.

    Args:
        counts: Rows of each sequence.
        limit: Most rows together; at least one block of `BLOCK` is, even if it is larger.

    Example:
        >>> together([30, 40, 50, 0, 130], limit=100)
        [70, 50, 64, 64, 2]
    """
    longest = max(limit // BLOCK * BLOCK, BLOCK)
    sizes: list[int] = []
    has_room = False
    for count in counts:
        if has_room and sizes[-1] + count <= limit:
            sizes[-1] += count
            continue
        blocks = [min(longest, count - start) for start in range(0, count, longest)]
        sizes += blocks
        has_room = len(blocks) == 1 or (has_room and not blocks)
    return sizes


def statistics_of_logits(logits: Tensor, mask: Tensor, *, request: ScoreRequest) -> PositionScores | None:
    """Return what a request asks for about each position (B, P), given its logits (B, P, V)."""
    return position_scores(_same, logits, mask, vocab_size=logits.shape[-1], request=request)


def position_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values of all positions (B·P,) over those that count, True in mask (B, P), shape (B,).

    Example:
        >>> position_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([[True, True, False]]))
        tensor([2.])
    """
    return values.view_as(mask).masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)


def _same(logits: Tensor) -> Tensor:
    return logits
