"""Vanilla NAT: every target position predicted at once from a uniform copy of the source."""

from __future__ import annotations

from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.decoding import EncoderOutput
from sharpseq.models.family import ModelFamily
from sharpseq.models.length_prediction import LengthPredictingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.models.uniform_copy import uniform_copy
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, length_mask, score_hidden_states


class VanillaNatConfig(OnePassConfig):
    """Configuration of `VanillaNat`; see `OnePassConfig`."""

    model_type = "sharpseq-vanilla-nat"


class VanillaNat(LengthPredictingModel):
    """Encoder, length predictor and a parallel decoder fed with a uniform copy of the source embeddings.

    References:
        Gu et al. 2018 without fertilities, as in Shao et al. 2023, appendix B.
    """

    config_class = VanillaNatConfig
    default_decoder = "argmax"

    def decode_parallel(
        self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, T, V) for target lengths (B,) in one pass; ``decoder_input_ids`` is ignored."""
        return self.project(self._decoder_states(encoded, lengths))

    def _decoder_states(self, encoded: EncoderOutput, lengths: Tensor) -> Tensor:
        copied = uniform_copy(self.embed(encoded.input_ids), encoded.attention_mask.sum(1), lengths.clamp(min=1))
        mask = length_mask(lengths.clamp(min=1), width=copied.shape[1])
        states: Tensor = self.decoder(self.add_positions(copied), mask, encoded.hidden, encoded.attention_mask)
        return states

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, request: ScoreRequest = LABELS_ONLY
    ) -> SequenceScores:
        """Score targets.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.

        Returns:
            Scores, with the regularizer ``length``: −log p(T|x) in nats.
        """
        encoded = self.encode(input_ids, attention_mask)
        lengths = (labels != IGNORED).sum(1)
        hidden = self._decoder_states(encoded, lengths)[:, : labels.shape[1]]
        scores = score_hidden_states(hidden, self.embedding.weight, labels[:, : hidden.shape[1]], request=request)
        return self.with_length_loss(scores, encoded, lengths)


VANILLA_NAT = ModelFamily(
    VanillaNatConfig,
    VanillaNat,
    VanillaNat.default_decoder,
    Declaration("vanilla_nat", "one pass: predicted length, uniform copy of the source, argmax", "Gu et al. 2018"),
)
