"""Learned weights of tokens, from hidden states of the reference."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class TokenMasks(nn.Module):
    """Two weights of each token, ReLU(w·h + b), that start at 1.

    Args:
        width: Width D of the hidden states.
        shares_mask: Whether both weights are the same.

    Example:
        >>> import torch
        >>> rewards, drifts = TokenMasks(4, shares_mask=True)(torch.zeros(2, 3, 4))
        >>> rewards.shape, bool((rewards == 1).all()), rewards is drifts
        (torch.Size([2, 3]), True, True)
    """

    def __init__(self, width: int, *, shares_mask: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1 if shares_mask else 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of log-ratios and of the drift, shape (B, T) each."""
        weights = self.linear(hidden_states.to(self.linear.weight.dtype)).relu()
        rewards = weights[..., 0]
        return rewards, weights[..., 1] if weights.shape[-1] > 1 else rewards


def token_masks_for(objective: Any, model: Any) -> TokenMasks | None:
    """Return what learns the weights of tokens for a model; None for an objective that learns none."""
    if objective.needs.masks != "learned":
        return None
    config = model.config.get_text_config()
    width = getattr(config, "hidden_size", None) or config.d_model
    return TokenMasks(int(width), shares_mask=objective.shares_mask).to(next(model.parameters()).dtype)
