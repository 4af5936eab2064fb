"""Hidden states with the output head that makes logits of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_TILE_ENTRIES = {"cpu": 2**11}
"""Entries of the vocabulary multiplied together: on a CPU, products of a few rows are fastest in slices."""


@dataclass(frozen=True)
class Head:
    r"""Logits that are never all held: :math:`s\,(hW^\top + b)`, with a softcap c :math:`c \tanh(s\,(hW^\top + b)/c)`.

    Args:
        hidden: Hidden states h, shape (..., D).
        weight: Output embedding W, shape (V, D).
        bias: Output bias b, shape (V,).
        scale: Scale s of the outputs.
        softcap: Bound c of the logits, as in Gemma 2.

    Raises:
        ValueError: If the shapes do not fit.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.hidden.shape[-1:] != self.weight.shape[1:]:
            raise ValueError(
                f"`hidden` of shape {tuple(self.hidden.shape)} does not fit `weight` of shape "
                f"{tuple(self.weight.shape)}; they must be (..., D) and (V, D)"
            )
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"`bias` must have shape ({len(self.weight)},); got {tuple(self.bias.shape)}")

    @property
    def needs_gradient(self) -> bool:
        """Whether a gradient would flow into any of its tensors."""
        return any(tensor is not None and tensor.requires_grad for tensor in (self.hidden, self.weight, self.bias))

    def cast(self) -> Head:
        """Return it with its rows in one line, in the dtype of autocast where that is on, else in the weight's."""
        device = self.hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return Head(
            self.hidden.reshape(-1, self.hidden.shape[-1]).to(dtype),
            self.weight.to(dtype),
            bias,
            self.scale,
            self.softcap,
        )

    def outputs(self, rows: slice, *, into: Tensor) -> Tensor:
        """Write hWᵀ + b of some rows, before scale and softcap, into the first rows of a buffer, and return those."""
        hidden, out = self.hidden[rows], into[: rows.stop - rows.start]
        for tile in self.tiles():
            if self.bias is None:
                torch.mm(hidden, self.weight[tile].T, out=out[:, tile])
            else:
                torch.addmm(self.bias[tile], hidden, self.weight[tile].T, out=out[:, tile])
        return out

    def tiles(self) -> Iterator[slice]:
        """Go through the vocabulary in slices that suit matrix products."""
        width = _TILE_ENTRIES.get(self.weight.device.type, max(len(self.weight), 1))
        for start in range(0, len(self.weight), width):
            yield slice(start, min(start + width, len(self.weight)))

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits of outputs."""
        if self.scale != 1.0:
            outputs = outputs * self.scale
        return outputs if self.softcap is None else self.softcap * torch.tanh(outputs / self.softcap)

    def to_outputs(self, grads: Tensor, logits: Tensor) -> Tensor:
        """Turn a gradient with respect to logits into one with respect to outputs."""
        if self.softcap is not None:
            grads = grads * (1 - (logits / self.softcap) ** 2)
        return grads if self.scale == 1.0 else grads * self.scale
