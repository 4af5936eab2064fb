"""What models share that fill in masked target tokens: CMLM and masked diffusion."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sharpseq.decoding import EncoderOutput
from sharpseq.models.length_prediction import LengthPredictingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.scoring import length_mask


class MaskedTargetConfig(OnePassConfig):
    """Configuration of a `MaskedTargetModel`; needs a ``mask_token_id``; see `OnePassConfig`."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.mask_token_id is None:
            raise ValueError("`mask_token_id` must be given: the model predicts masked tokens")


class MaskedTargetModel(LengthPredictingModel):
    """Encoder, length predictor and a parallel decoder that reads a target in which some tokens are masked."""

    def decode_parallel(
        self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, T, V) for target lengths (B,), given target ids with masks, or all masked by default."""
        if decoder_input_ids is None:
            shape = (len(lengths), int(lengths.max()))
            decoder_input_ids = torch.full(shape, self.mask_token_id, device=lengths.device)
        return self.project(self.decoder_states(encoded, lengths, decoder_input_ids))

    @property
    def mask_token_id(self) -> int:
        """Id of the mask."""
        mask_token_id = self.config.mask_token_id
        if mask_token_id is None:
            raise ValueError("`mask_token_id` must be given: the model predicts masked tokens")
        return mask_token_id

    def decoder_states(self, encoded: EncoderOutput, lengths: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return the last hidden states (B, T, D) for target ids (B, T) with masks."""
        return self._states_of(encoded, lengths, self.embed(decoder_input_ids))

    def decode_mixtures(self, encoded: EncoderOutput, lengths: Tensor, mixtures: Tensor) -> Tensor:
        """Return logits (B, T, V) given the share (B, T, V) of each token's embedding in each input."""
        embedded = math.sqrt(self.config.d_model) * mixtures.to(self.embedding.weight.dtype) @ self.embedding.weight
        return self.project(self._states_of(encoded, lengths, embedded))

    def _states_of(self, encoded: EncoderOutput, lengths: Tensor, embedded: Tensor) -> Tensor:
        mask = length_mask(lengths.clamp(min=1), width=embedded.shape[1])
        states: Tensor = self.decoder(self.add_positions(embedded), mask, encoded.hidden, encoded.attention_mask)
        return states

    def observed_ids(self, labels: Tensor, *, scored: Tensor, masked: Tensor) -> Tensor:
        """Return what the decoder reads: targets (B, T) with masks, and padding after their end."""
        observed = torch.where(masked, self.mask_token_id, labels)
        return observed.masked_fill(~scored, self.config.pad_token_id)
