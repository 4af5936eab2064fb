"""The Transformer blocks that all our models share: pre-norm, parallel over positions, nothing cached."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoidal_positions(length: int, width: int, *, like: Tensor) -> Tensor:
    """Return sinusoidal position embeddings, shape (length, width), in the dtype and on the device of ``like``.

    Computed at every call: at these sizes that is cheaper than keeping a buffer correct across loading and devices.

    Example:
        >>> sinusoidal_positions(1, 4, like=torch.zeros(1))
        tensor([[0., 0., 1., 1.]])

    References:
        Vaswani et al. 2017, section 3.5.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = torch.arange(length, device=like.device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself, or to a memory, without dropout on its weights."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Map hidden (B, T, D) and memory (B, S, D), mask (B, S) bool, to (B, T, D)."""
        query = self._split_heads(self.query(hidden))
        key, value = self.key_value(memory).chunk(2, dim=-1)
        attended: Tensor = F.scaled_dot_product_attention(
            query, self._split_heads(key), self._split_heads(value), attn_mask=memory_mask[:, None, None, :]
        )
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], self.num_heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__(nn.Linear(width, inner_width), nn.ReLU(), nn.Linear(inner_width, width))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normalised before and added after."""

    def __init__(self, width: int, num_heads: int, inner_width: int, *, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner_width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map hidden (B, S, D) with mask (B, S) to (B, S, D)."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.dropout(self.attention(normed, normed, mask))
        hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return hidden


class DecoderLayer(EncoderLayer):
    """An encoder layer with attention to the source in the middle; every position sees every other."""

    def __init__(self, width: int, num_heads: int, inner_width: int, *, dropout: float) -> None:
        super().__init__(width, num_heads, inner_width, dropout=dropout)
        self.cross_attention_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, num_heads)

    def forward(  # type: ignore[override]
        self, hidden: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """Map hidden (B, T, D) with mask (B, T) and memory (B, S, D) with its mask to (B, T, D)."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.dropout(self.attention(normed, normed, mask))
        hidden = hidden + self.dropout(self.cross_attention(self.cross_attention_norm(hidden), memory, memory_mask))
        hidden = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return hidden


class Encoder(nn.Module):
    """A stack of encoder layers with a final norm."""

    def __init__(self, num_layers: int, width: int, num_heads: int, inner_width: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, num_heads, inner_width, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map hidden (B, S, D) with mask (B, S) to (B, S, D)."""
        for layer in self.layers:
            hidden = layer(hidden, mask)
        normed: Tensor = self.norm(hidden)
        return normed


class ParallelDecoder(nn.Module):
    """A stack of decoder layers that reads all target positions at once, with a final norm."""

    def __init__(self, num_layers: int, width: int, num_heads: int, inner_width: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, num_heads, inner_width, dropout=dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        *,
        after_layer: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Map hidden (B, T, D) with mask (B, T) and memory (B, S, D) with its mask to (B, T, D).

        ``after_layer``, called with the number of a layer, from 1, and the states after it, may change the states.
        """
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, mask, memory, memory_mask)
            if after_layer is not None:
                hidden = after_layer(number, hidden)
        normed: Tensor = self.norm(hidden)
        return normed
