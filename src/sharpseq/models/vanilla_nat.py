"""Vanilla NAT: every target position predicted at once from a uniform copy of the source."""

from __future__ import annotations

from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.decoding import EncoderOutput
from sharpseq.decoding.inference import inference
from sharpseq.decoding.token_choice import most_probable_ids
from sharpseq.models.family import ModelFamily
from sharpseq.models.glancing import choose_glances, with_glances
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
    glances = True

    def decode_parallel(
        self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, T, V) for target lengths (B,) in one pass; ``decoder_input_ids`` is ignored."""
        return self.project(self._decoder_states(encoded, lengths))

    def _decoder_states(self, encoded: EncoderOutput, lengths: Tensor, *, glanced_ids: Tensor | None = None) -> Tensor:
        copied = uniform_copy(self.embed(encoded.input_ids), encoded.attention_mask.sum(1), lengths.clamp(min=1))
        if glanced_ids is not None:
            copied = with_glances(copied, self.embed(glanced_ids.clamp(min=0)), glanced_ids)
        mask = length_mask(lengths.clamp(min=1), width=copied.shape[1])
        states: Tensor = self.decoder(self.add_positions(copied), mask, encoded.hidden, encoded.attention_mask)
        return states

    def _glances(self, encoded: EncoderOutput, labels: Tensor, lengths: Tensor, *, ratio: float) -> Tensor:
        """Return the target tokens to show, (B, T), −100 for none."""
        with inference(self):
            best = most_probable_ids(self.decode_parallel(encoded, lengths))
            num_wrong = ((best != labels) & (labels != IGNORED)).sum(1)
        return choose_glances(labels, num_wrong, ratio=ratio)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        *,
        request: ScoreRequest = LABELS_ONLY,
        glance_ratio: float = 0.0,
    ) -> SequenceScores:
        """Score targets.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.
            glance_ratio: In training, the share of the wrong tokens that are shown to the decoder.

        Returns:
            Scores of the tokens that are not shown, with the regularizer ``length``: −log p(T|x) in nats.
        """
        encoded = self.encode(input_ids, attention_mask)
        lengths, glanced_ids = (labels != IGNORED).sum(1), None
        labels = labels[:, : max(int(lengths.max()), 1)]
        if self.training and glance_ratio > 0 and labels.shape[1]:
            glanced_ids = self._glances(encoded, labels, lengths, ratio=glance_ratio)
            labels = labels.masked_fill(glanced_ids != IGNORED, IGNORED)
        hidden = self._decoder_states(encoded, lengths, glanced_ids=glanced_ids)[:, : labels.shape[1]]
        scores = score_hidden_states(hidden, self.embedding.weight, labels, request=request)
        return self.with_length_loss(scores, encoded, lengths)


VANILLA_NAT = ModelFamily(
    VanillaNatConfig,
    VanillaNat,
    VanillaNat.default_decoder,
    Declaration("vanilla_nat", "one pass: predicted length, uniform copy of the source, argmax", "Gu et al. 2018"),
)
