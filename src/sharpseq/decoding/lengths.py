"""Length beam: which target lengths to try, and which of the candidates to keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.decoding.length_limits import ReachedLimit, reached_limits
from sharpseq.decoding.protocols import Batch, Rescorer


def length_candidates(
    lengths: Tensor, log_probs: Tensor, *, num_candidates: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """Return the most probable target lengths of each source, the best first.

    Classes that stand for the same length (because a length predictor clips at 1 or at its last class) add up. A source
    that has fewer possible lengths than candidates repeats its best length, so that every source has as many.

    Args:
        lengths: The length that each class stands for, in tokens, shape (B, C); outside [1, ``max_length``] it means
            the nearest possible length.
        log_probs: Log-probability of each class in nats, shape (B, C).
        num_candidates: How many lengths to return, at least 1.
        max_length: Longest target that the model can write, in tokens.

    Returns:
        Lengths (B, n) and their log-probabilities in nats (B, n), n = min(``num_candidates``, C).

    Raises:
        ValueError: If ``num_candidates`` is less than 1, or a source has no length with a probability above 0.

    Example:
        >>> classes, probs = torch.tensor([[-1, 0, 1, 2]]), torch.tensor([[0.2, 0.1, 0.3, 0.4]])
        >>> candidates, log_probs = length_candidates(classes, probs.log(), num_candidates=2, max_length=9)
        >>> candidates, log_probs.exp()
        (tensor([[1, 2]]), tensor([[0.6000, 0.4000]]))

    References:
        Ghazvininejad et al. 2019, section 3.4.
    """
    if num_candidates < 1:
        raise ValueError(f"`num_candidates` must be at least 1; got {num_candidates}")
    lengths = lengths.long().clamp(1, max_length)
    # float64, in which exp underflows only below −745 nats.
    probs = log_probs.new_zeros(len(lengths), int(lengths.max()) + 1, dtype=torch.float64)
    probs.scatter_add_(1, lengths, log_probs.double().exp())
    # A stable sort lets the shorter of two equally probable lengths win on every device and in every batch.
    best, candidates = probs.sort(dim=1, descending=True, stable=True)
    if not (best[:, 0] > 0).all():
        row = int((~(best[:, 0] > 0)).nonzero()[0, 0])
        raise ValueError(f"`log_probs` must make some length possible; row {row} has none")
    num_candidates = min(num_candidates, log_probs.shape[1])
    missing = num_candidates - best.shape[1]
    if missing > 0:
        best, candidates = (F.pad(values, (0, missing)) for values in (best, candidates))
    best, candidates = best[:, :num_candidates], candidates[:, :num_candidates]
    possible = best > 0
    candidates = torch.where(possible, candidates, candidates[:, :1])
    best = torch.where(possible, best, best[:, :1])
    return candidates, best.log().to(log_probs.dtype)


def reached_length_limits(chosen: Tensor, lengths: Tensor, *, max_length: int) -> tuple[ReachedLimit | None, ...]:
    """Return the limits of the outputs that are as long as a length predictor allows.

    Args:
        chosen: The length of each output, shape (B,).
        lengths: As for `length_candidates`, shape (B, C).
        max_length: As for `length_candidates`.
    """
    limits = lengths.amax(1).clamp(1, max_length)
    remedies = [
        "the model needs a larger `max_target_positions`, and training with it"
        if limit == max_length
        else "the length predictor knows no longer ones for these sources"
        for limit in limits.tolist()
    ]
    return reached_limits(chosen, limits, remedies=remedies)


def choose_candidates(
    batch: Batch,
    sequences: Tensor,
    *,
    log_prob: Tensor,
    num_tokens: Tensor,
    num_candidates: int,
    rescorer: Rescorer | None,
) -> tuple[Tensor, dict[str, Any]]:
    """Choose the best candidate of each source.

    Args:
        batch: The sources, B of them.
        sequences: Candidates, those of one source next to each other, shape (B·n, T).
        log_prob: Sum of their token log-probabilities in nats, shape (B·n,).
        num_tokens: Their lengths in tokens, shape (B·n,).
        num_candidates: n.
        rescorer: Scores the candidates; by default the score is ``log_prob / num_tokens``.

    Returns:
        Rows of the chosen candidates (B,); and, if there was a choice, ``candidates`` (B, n, T) and
        ``candidate_scores`` (B, n) for the trace.

    Raises:
        ValueError: If the rescorer does not return one score for each candidate.
    """
    if num_candidates == 1:
        return torch.arange(len(sequences), device=sequences.device), {}
    scores = log_prob / num_tokens if rescorer is None else rescorer(batch, sequences, num_tokens)
    if scores.shape != num_tokens.shape:
        raise ValueError(f"`rescorer` must return shape {tuple(num_tokens.shape)}; got {tuple(scores.shape)}")
    by_source = scores.view(-1, num_candidates)
    first = torch.arange(0, len(sequences), num_candidates, device=sequences.device)
    trace = {"candidates": sequences.unflatten(0, by_source.shape), "candidate_scores": by_source}
    return first + by_source.argmax(1), trace
