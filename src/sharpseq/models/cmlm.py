"""CMLM: a masked language model of the target, conditional on the source."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.decoding import EncoderOutput
from sharpseq.models.family import ModelFamily
from sharpseq.models.glancing import random_subset
from sharpseq.models.length_prediction import LengthPredictingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, length_mask, score_hidden_states


class CmlmConfig(OnePassConfig):
    """Configuration of `Cmlm`; needs a ``mask_token_id``; see `OnePassConfig`."""

    model_type = "sharpseq-cmlm"

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        if self.mask_token_id is None:
            raise ValueError("`mask_token_id` must be given: a CMLM predicts masked tokens")


def random_mask(scored: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw how many tokens of each target to mask, uniformly from 1 to its length, then which ones, uniformly.

    Args:
        scored: True for real target positions, shape (B, T).
        generator: Source of randomness; the global one by default.

    Returns:
        True for masked positions, shape (B, T); a target of length 0 has none.

    Example:
        >>> random_mask(torch.tensor([[True, False]]))
        tensor([[ True, False]])

    References:
        Ghazvininejad et al. 2019, section 3.1.
    """
    lengths = scored.sum(1)
    draws = torch.rand(len(scored), 1 + scored.shape[1], generator=generator).to(scored.device)
    num_masked = (draws[:, 0] * lengths).floor().long() + 1
    return random_subset(scored, num_masked, draws=draws[:, 1:])


class Cmlm(LengthPredictingModel):
    """Encoder, length predictor and a parallel decoder that fills in masked target tokens.

    Only masked positions are scored, as in the original; ``num_tokens`` counts them. Outside training every position
    is masked, so that the score is that of the whole sentence written in one pass.

    References:
        Ghazvininejad et al. 2019, "Mask-predict".
    """

    config_class = CmlmConfig
    default_decoder = "mask_predict"

    def decode_parallel(
        self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, T, V) for target lengths (B,), given target ids with masks, or all masked by default."""
        if decoder_input_ids is None:
            shape = (len(lengths), int(lengths.max()))
            decoder_input_ids = torch.full(shape, self._mask_token_id(), device=lengths.device)
        return self.project(self._decoder_states(encoded, lengths, decoder_input_ids))

    def _mask_token_id(self) -> int:
        mask_token_id = self.config.mask_token_id
        if mask_token_id is None:
            raise ValueError("`mask_token_id` must be given: a CMLM predicts masked tokens")
        return mask_token_id

    def _decoder_states(self, encoded: EncoderOutput, lengths: Tensor, decoder_input_ids: Tensor) -> Tensor:
        mask = length_mask(lengths.clamp(min=1), width=decoder_input_ids.shape[1])
        embedded = self.add_positions(self.embed(decoder_input_ids))
        states: Tensor = self.decoder(embedded, mask, encoded.hidden, encoded.attention_mask)
        return states

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, request: ScoreRequest = LABELS_ONLY
    ) -> SequenceScores:
        """Score masked target tokens.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.

        Returns:
            Scores, with the regularizer ``length``: −log p(T|x) in nats.
        """
        encoded = self.encode(input_ids, attention_mask)
        scored = labels != IGNORED
        masked = random_mask(scored) if self.training else scored
        observed = torch.where(masked, self._mask_token_id(), labels)
        decoder_input_ids = observed.masked_fill(~scored, self.config.pad_token_id)
        lengths = scored.sum(1)
        hidden = self._decoder_states(encoded, lengths, decoder_input_ids)
        targets = labels.masked_fill(~masked, IGNORED)
        scores = score_hidden_states(hidden, self.embedding.weight, targets, request=request)
        return self.with_length_loss(scores, encoded, lengths)


CMLM = ModelFamily(
    CmlmConfig,
    Cmlm,
    Cmlm.default_decoder,
    Declaration(
        "cmlm",
        "one pass or more: fills in masked target tokens, worst ones masked again",
        "Ghazvininejad et al. 2019",
    ),
)
