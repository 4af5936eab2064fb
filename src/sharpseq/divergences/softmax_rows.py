"""What every divergence does between logits and rows of log-probabilities, and on the way back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_SLICE_ELEMENTS = {"cpu": 2**17}
_SLICE_ELEMENTS_ELSEWHERE = 2**26
"""Probabilities looked at together: what fits a core's cache, or what makes starting a kernel worth while."""


def log_probs(logits: Tensor, temperature: float, *, dtype: torch.dtype) -> Tensor:
    """Return the logarithm of the softmax of each row."""
    return torch.log_softmax(logits if temperature == 1.0 else logits.to(dtype) / temperature, -1, dtype=dtype)


def through_softmax(slopes: Tensor, log_q: Tensor) -> Tensor:
    """Turn derivatives with respect to log-probabilities into those with respect to logits, in place."""
    return slopes.sub_(log_q.exp().mul_(slopes.sum(-1, keepdim=True)))


def scaled(grads: Tensor, scale: Tensor) -> Tensor:
    """Multiply the gradients of rows by what comes from above, in place; a row that nobody asks for gets zeros."""
    grads.mul_(scale)
    return grads.masked_fill_(scale == 0, 0) if bool((scale == 0).any()) else grads


def slices(values: Tensor) -> Iterator[slice]:
    """Go through the rows of (N, V) a few at a time."""
    elements = _SLICE_ELEMENTS.get(values.device.type, _SLICE_ELEMENTS_ELSEWHERE)
    step = max(elements // max(values.shape[-1], 1), 1)
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values)))


def precise(*tensors: Tensor) -> torch.dtype:
    """Return the precision in which divergences are computed: float32, or float64 where an input has it."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def check_pair(target: torch.Size, model: torch.Size) -> None:
    """Check that two distributions are over the same entries.

    Raises:
        ValueError: If they are not.
    """
    if not target or not model:
        raise ValueError("the target and the model need logits of shape (..., V); got a single number")
    if target[-1] != model[-1]:
        raise ValueError(
            f"the target has {target[-1]} entries and the model {model[-1]}; both need one vocabulary (leave the "
            "padding of the larger embedding out)"
        )
    if target != model:
        raise ValueError(f"the target has shape {tuple(target)} and the model {tuple(model)}; they must be the same")


def check_temperature(temperature: float) -> None:
    """Check that a temperature is positive.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"`temperature` must be greater than 0; got {temperature}")
