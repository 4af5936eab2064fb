"""Unmasking: a target of masks whose positions are written for good, some in each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.decoding.length_beam import Written
from sharpseq.decoding.lowest_values import lowest
from sharpseq.decoding.protocols import EncoderOutput, ParallelModel
from sharpseq.decoding.random_choice import choose_at_random
from sharpseq.decoding.token_choice import (
    log_normalizers,
    most_probable_tokens,
    special_token_ids,
    without_tokens,
)
from sharpseq.scoring import length_mask


@dataclass(frozen=True)
class UnmaskingPlan:
    """Which positions are written in which step.

    Args:
        steps: Numbers of the steps.
        counts: From the number of a step and what is masked (R, T) to how many positions of each target are written in
            it, shape (R,).
        ranking: From the rows that are run (N,) and their logits (N, T, V), in which tokens that are never written have
            −inf, to numbers (N, T): the masked positions with the lowest ones are written.
    """

    steps: Iterable[int]
    counts: Callable[[int, Tensor], Tensor]
    ranking: Callable[[Tensor, Tensor], Tensor]


def unmask(
    model: ParallelModel,
    encoded: EncoderOutput,
    num_tokens: Tensor,
    *,
    plan: UnmaskingPlan,
    temperature: float,
    draws: Tensor,
) -> Written:
    """Start with all positions masked and follow a plan; what is written stays, and later passes see it.

    In each step, the network runs on the targets that are written to in it. A step that writes nothing costs nothing:
    the next one would see the same masks and get the same predictions.

    Args:
        model: Predicts masked tokens.
        encoded: Sources, R of them.
        num_tokens: Lengths of the targets, shape (R,).
        plan: Which positions are written when.
        temperature: Divides the logits that tokens are drawn from; 0 takes the most probable token.
        draws: Uniform numbers in [0, 1), one for each position, shape (R, T).

    Returns:
        The targets; ``log_prob`` is the sum of the log-probabilities of tokens in the pass that wrote them, at
        temperature 1. ``num_passes`` counts steps in which the network ran, the trace the passes of each target.

    Raises:
        ValueError: If the model has no mask token.
    """
    mask_token_id = model.config.mask_token_id
    if mask_token_id is None:
        raise ValueError("`model.config.mask_token_id` must be set: unmasking needs a model with a mask token")
    masked = length_mask(num_tokens, width=int(num_tokens.max()))
    sequences = torch.full_like(masked, model.config.pad_token_id, dtype=torch.long).masked_fill(masked, mask_token_id)
    log_prob, row_passes, passes = torch.zeros(len(masked), device=masked.device), torch.zeros_like(num_tokens), []
    for step in plan.steps:
        if not masked.any():
            break
        counts = plan.counts(step, masked)
        rows = counts.nonzero()[:, 0]
        if not len(rows):
            continue
        width = int(num_tokens[rows].max())
        observed = sequences[rows, :width]
        logits = model.decode_parallel(encoded.index_select(rows), num_tokens[rows], decoder_input_ids=observed)
        ranks = plan.ranking(rows, without_tokens(logits, special_token_ids(model.config)))
        written = lowest(ranks, counts[rows], among=masked[rows, :width])
        tokens, log_probs = _choose(
            logits[written],
            draws[rows, :width][written],
            forbidden=special_token_ids(model.config),
            temperature=temperature,
        )
        owners, places = rows[written.nonzero()[:, 0]], written.nonzero()[:, 1]
        # Not in place: what the passes keep must not change.
        sequences = sequences.index_put((owners, places), tokens)
        masked = masked.index_put((owners, places), torch.zeros_like(owners, dtype=torch.bool))
        log_prob = log_prob.to(log_probs).index_add(0, owners, log_probs)
        row_passes[rows] += 1
        passes.append(sequences)
    return Written(sequences, log_prob, num_passes=len(passes), passes=passes, trace={"passes_of_output": row_passes})


def _choose(logits: Tensor, draws: Tensor, *, forbidden: tuple[int, ...], temperature: float) -> tuple[Tensor, Tensor]:
    """Return a token for each of N distributions, with its log-probability at temperature 1, shape (N,) each."""
    if temperature == 0:
        choice = most_probable_tokens(logits, forbidden=forbidden)
        return choice.tokens, choice.log_probs
    drawn = choose_at_random(without_tokens(logits, forbidden), draws[:, None], temperature=temperature)
    normalizers = log_normalizers(logits)
    return drawn[:, 0], logits.gather(1, drawn)[:, 0].to(normalizers) - normalizers
