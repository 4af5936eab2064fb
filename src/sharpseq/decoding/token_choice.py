"""The most probable token at every position, without the special ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sharpseq.decoding.protocols import OnePassConfiguration

# Logits are read in blocks of about this many numbers that stay in the processor's cache between the maximum and the
# normalizer, and whose float32 copies stay small when the logits are bfloat16.
BLOCK_SIZE = 2**18


class TokenChoice(NamedTuple):
    """The choice at every position, each (B, T).

    Args:
        tokens: Chosen ids.
        log_probs: Log-probability of each chosen token in nats, at least float32.
        normalizers: log Σ_v exp(logit_v), at least float32; what turns any logit into a log-probability.
    """

    tokens: Tensor
    log_probs: Tensor
    normalizers: Tensor


def special_token_ids(config: OnePassConfiguration, *, allowed: int | None = None) -> tuple[int, ...]:
    """Return the ids that no one-pass output contains: padding, BOS, EOS and mask; the unknown token is allowed.

    Args:
        config: A model's configuration; ``bos_token_id`` is read if there is one.
        allowed: An id to leave out, such as a blank that is also the padding.

    Returns:
        Sorted ids, without duplicates.
    """
    ids = {config.pad_token_id, config.eos_token_id, config.mask_token_id, getattr(config, "bos_token_id", None)}
    return tuple(sorted(token for token in ids if token is not None and token != allowed))


def without_tokens(logits: Tensor, forbidden: Sequence[int]) -> Tensor:
    """Return logits (..., V) in which forbidden tokens have −inf.

    Example:
        >>> without_tokens(torch.zeros(1, 3), (1,))
        tensor([[0., -inf, 0.]])
    """
    if not forbidden:
        return logits
    return logits.index_fill(-1, torch.tensor(list(forbidden), device=logits.device), -torch.inf)


def log_normalizers(logits: Tensor) -> Tensor:
    """Return log Σ_v exp(logit_v) in at least float32, shape (B, T), of logits (B, T, V).

    Example:
        >>> log_normalizers(torch.zeros(1, 1, 4, dtype=torch.bfloat16)).exp()
        tensor([[4.]])
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    blocks = [block.to(dtype).logsumexp(-1) for block in logits.flatten(0, -2).split(_block_rows(logits))]
    return torch.cat(blocks).view(logits.shape[:-1])


def most_probable_tokens(logits: Tensor, *, forbidden: tuple[int, ...] = ()) -> TokenChoice:
    """Choose the best token that is not forbidden, and report its probability under the full distribution.

    Args:
        logits: Unnormalised log-probabilities in any floating type, shape (B, T, V); not modified.
        forbidden: Ids that are never chosen; they keep their share of the probability.

    Returns:
        Tokens, their log-probabilities in nats and the normalizers, each (B, T). Of equally probable tokens, the one
        with the smallest id wins.

    Raises:
        ValueError: If every token is forbidden.

    Example:
        >>> choice = most_probable_tokens(torch.tensor([[[2.0, 1.0, 0.0]]]).log(), forbidden=(0,))
        >>> choice.tokens, choice.log_probs.exp()
        (tensor([[1]]), tensor([[0.3333]]))
    """
    ranges = _allowed_ranges(logits.shape[-1], forbidden)
    tokens, values, normalizers = [], [], []
    for block in logits.flatten(0, -2).split(_block_rows(logits)):
        value, token = _best(block, ranges)
        tokens.append(token)
        values.append(value)
        normalizers.append(log_normalizers(block))
    shape = logits.shape[:-1]
    normalizer = torch.cat(normalizers).view(shape)
    return TokenChoice(torch.cat(tokens).view(shape), torch.cat(values).view(shape) - normalizer, normalizer)


def most_probable_ids(logits: Tensor, *, forbidden: tuple[int, ...] = ()) -> Tensor:
    """Return the tokens of `most_probable_tokens` alone, (B, T), without the cost of their probabilities.

    Example:
        >>> most_probable_ids(torch.tensor([[[2.0, 1.0, 0.0]]]), forbidden=(0,))
        tensor([[1]])
    """
    ranges = _allowed_ranges(logits.shape[-1], forbidden)
    blocks = logits.flatten(0, -2).split(_block_rows(logits))
    return torch.cat([_best(block, ranges)[1] for block in blocks]).view(logits.shape[:-1])


def best_tokens(logits: Tensor, *, top_k: int, forbidden: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the ``top_k`` best tokens (B, T, N) that are not forbidden, and their logits; −inf where there is none.

    Example:
        >>> best_tokens(torch.tensor([[[0.0, 3.0, 2.0, 1.0]]]), top_k=2, forbidden=(1,))
        (tensor([[[2, 3]]]), tensor([[[2., 1.]]]))
    """
    vocab_size = logits.shape[-1]
    # As many more as can be forbidden: cheaper than a copy of all logits with −inf in some columns.
    values, tokens = logits.topk(min(vocab_size, top_k + len(forbidden)), dim=-1)
    values = values.masked_fill(torch.isin(tokens, torch.tensor(forbidden, device=tokens.device)), -torch.inf)
    values, places = values.topk(min(values.shape[-1], top_k), dim=-1)
    return tokens.gather(-1, places), values


def _allowed_ranges(vocab_size: int, forbidden: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the ranges between forbidden ids: nothing of size V is copied, as it would be to mask logits with −inf."""
    edges = [-1, *sorted(forbidden), vocab_size]
    ranges = [(low + 1, high) for low, high in pairwise(edges) if low + 1 < high]
    if not ranges:
        raise ValueError(f"`forbidden` must leave at least one of {vocab_size} tokens; got {forbidden}")
    return ranges


def _best(block: Tensor, ranges: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return the largest logit and its id, the smallest of equals, of each row."""
    value, token = block[:, slice(*ranges[0])].max(-1)
    token = token + ranges[0][0]
    for low, high in ranges[1:]:
        other_value, other_token = block[:, low:high].max(-1)
        better = other_value > value
        value, token = torch.where(better, other_value, value), torch.where(better, other_token + low, token)
    return value, token


def _block_rows(logits: Tensor) -> int:
    return max(1, BLOCK_SIZE // logits.shape[-1])
