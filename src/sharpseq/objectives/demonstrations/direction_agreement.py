"""Forward–backward agreement: what two directions of writing say of the same token."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.divergences import Jeffreys


def reversed_places(num_tokens: Tensor, *, width: int) -> Tensor:
    """Return where the backward direction predicts the token that the forward one predicts at each place.

    Of a target of n tokens and EOS, the backward direction writes token n − 1 first: token t is at place n − 1 − t, and
    EOS has no counterpart.

    Args:
        num_tokens: Length n of each target without EOS, shape (B,).
        width: Places T of the result.

    Returns:
        Shape (B, T); −1 from place n on.

    Example:
        >>> reversed_places(torch.tensor([3, 1]), width=4)
        tensor([[ 2,  1,  0, -1],
                [ 0, -1, -1, -1]])
    """
    places = num_tokens[:, None] - 1 - torch.arange(width, device=num_tokens.device)
    return places.clamp(min=-1)


def direction_disagreement(forward_logits: Tensor, backward_logits: Tensor) -> Tensor:
    r"""Return :math:`\frac12 [\mathrm{KL}(p_\to \| p_\gets) + \mathrm{KL}(p_\gets \| p_\to)]` of each token, in nats.

    Gradients go to both directions. The paper's distance for text is not known to us; this one is ours.

    Args:
        forward_logits: Logits of the forward direction for N tokens, shape (N, V).
        backward_logits: Those of the backward direction for the same tokens, shape (N, V).

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> direction_disagreement(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
        tensor([0.1155])

    References:
        Zheng et al. 2019, "Forward-backward decoding for regularizing end-to-end TTS" (#101).
    """
    return Jeffreys().exact(target_logits=forward_logits, model_logits=backward_logits) / 2
