"""Random choices that depend on an example and a seed, and not on the batch around it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from sharpseq.decoding.token_choice import BLOCK_SIZE


def uniform_numbers(example_ids: Sequence[int], *, num_samples: int, width: int, seed: str) -> Tensor:
    """Draw numbers in [0, 1) for each sample of each example, whatever else is in the batch.

    Args:
        example_ids: Numbers of the examples, B of them.
        num_samples: Samples of each, K.
        width: Numbers for each sample; a larger width begins with the same numbers.
        seed: Shared by all; other seeds draw other numbers.

    Returns:
        Shape (B·K, width), float64; the samples of an example stand next to each other.

    Example:
        >>> both = uniform_numbers([7, 8], num_samples=2, width=3, seed="a")
        >>> alone = uniform_numbers([8], num_samples=2, width=5, seed="a")
        >>> bool((both[2:] == alone[:, :3]).all())
        True
    """
    numbers = torch.empty(len(example_ids) * num_samples, width, dtype=torch.float64)
    generator = torch.Generator()
    for row in range(len(numbers)):
        example, sample = example_ids[row // num_samples], row % num_samples
        digest = blake2b(f"{seed} {example} {sample}".encode(), digest_size=8).digest()
        generator.manual_seed(int.from_bytes(digest, "little") & (2**63 - 1))
        numbers[row] = torch.rand(width, generator=generator, dtype=torch.float64)
    return numbers


def numbers_of_sequences(
    ids: Tensor, mask: Tensor, *, num_samples: int, width: int, seed: str, generator: torch.Generator | None = None
) -> Tensor:
    """Draw numbers in [0, 1) for each sample of each sequence, which depend on its tokens and the seed.

    Args:
        ids: Token ids, shape (B, S).
        mask: True or 1 for real tokens, shape (B, S).
        num_samples: Samples of each, K.
        width: Numbers for each sample; a larger width begins with the same numbers.
        seed: Shared by all; other seeds draw other numbers.
        generator: Drawn from instead, whatever the tokens and the seed are.

    Returns:
        Shape (B·K, width), float64, on the CPU; the samples of a sequence stand next to each other.

    Example:
        >>> numbers = numbers_of_sequences(
        ...     torch.tensor([[5, 6], [5, 1]]), torch.tensor([[1, 1], [1, 0]]), num_samples=1, width=3, seed="a"
        ... )
        >>> alone = numbers_of_sequences(torch.tensor([[5]]), torch.ones(1, 1), num_samples=1, width=2, seed="a")
        >>> bool((numbers[1, :2] == alone[0]).all())
        True
    """
    if generator is not None:
        return torch.rand(len(ids) * num_samples, width, generator=generator, dtype=torch.float64)
    names = [hash(tuple(row[kept].tolist())) for row, kept in zip(ids, mask.bool(), strict=True)]
    return uniform_numbers(names, num_samples=num_samples, width=width, seed=seed)


def choose_at_random(logits: Tensor, uniforms: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Draw tokens from distributions by the inverse of their cumulative probabilities.

    Args:
        logits: Unnormalised log-probabilities, shape (N, V).
        uniforms: Numbers in [0, 1), K for each distribution, shape (N, K).
        temperature: Divides the logits; greater than 0.

    Returns:
        Token ids, shape (N, K). A token of probability 0 is never drawn.

    Example:
        >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
        >>> choose_at_random(logits, torch.tensor([[0.1, 0.6, 0.9]]))
        tensor([[0, 1, 2]])
    """
    if not temperature > 0:
        raise ValueError(f"`temperature` must be greater than 0; got {temperature}")
    rows = max(1, BLOCK_SIZE // logits.shape[-1])
    found = []
    for block, numbers in zip(logits.split(rows), uniforms.split(rows), strict=True):
        heights = (block.double() / temperature).softmax(-1).cumsum(-1)
        # Below the last height, so that rounding cannot choose what comes after it and has no probability.
        wanted = (numbers.to(heights) * heights[:, -1:]).minimum(heights[:, -1:] * (1 - 2**-52))
        found.append(torch.searchsorted(heights, wanted.contiguous(), right=True))
    return torch.cat(found)
