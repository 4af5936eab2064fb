"""One step of delta inference: write the most probable translation, and move the latent to where it points."""

from __future__ import annotations

from torch import Tensor

from sharpseq.decoding.protocols import EncoderOutput, LatentModel
from sharpseq.decoding.token_choice import most_probable_ids, special_token_ids


def delta_step(model: LatentModel, encoded: EncoderOutput, latent: Tensor, lengths: Tensor) -> Tensor:
    r"""Return :math:`\mathbb E_{q(z|\hat y, x)}[z]` with :math:`\hat y = \arg\max_y p(y|z, x)`.

    Args:
        model: A latent-variable model.
        encoded: The encoded sources, B of them.
        latent: z, shape (B, T, D).
        lengths: Target lengths in tokens, shape (B,).

    Returns:
        The new latent, shape (B, T, D).

    References:
        Shu et al. 2020; Lee, Shu and Cho 2020, section 2.2.
    """
    logits = model.decode_latent(encoded, latent, lengths)
    tokens = most_probable_ids(logits, forbidden=special_token_ids(model.config))
    return model.posterior(encoded, tokens, lengths).mean
