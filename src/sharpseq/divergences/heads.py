"""Hidden states with the output head that makes logits of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


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
        return Head(self.hidden.flatten(0, -2).to(dtype), self.weight.to(dtype), bias, self.scale, self.softcap)

    def outputs(self, rows: slice) -> Tensor:
        """Return hW + b of some rows, before scale and softcap, in the dtype of the weight."""
        with torch.autocast(self.hidden.device.type, enabled=False):
            return F.linear(self.hidden[rows], self.weight, self.bias)

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
