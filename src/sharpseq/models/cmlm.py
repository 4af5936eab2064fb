"""CMLM: a masked language model of the target, conditional on the source."""

from __future__ import annotations

from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.models.family import ModelFamily
from sharpseq.models.masked_target import MaskedTargetConfig, MaskedTargetModel
from sharpseq.models.random_masks import random_mask
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, score_hidden_states


class CmlmConfig(MaskedTargetConfig):
    """Configuration of `Cmlm`; needs a ``mask_token_id``; see `OnePassConfig`."""

    model_type = "sharpseq-cmlm"


class Cmlm(MaskedTargetModel):
    """Encoder, length predictor and a parallel decoder that fills in masked target tokens.

    Only masked positions are scored, as in the original; ``num_tokens`` counts them. Outside training every position
    is masked, so that the score is that of the whole sentence written in one pass.

    References:
        Ghazvininejad et al. 2019, "Mask-predict".
    """

    config_class = CmlmConfig
    default_decoder = "mask_predict"

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
        lengths = scored.sum(1)
        hidden = self.decoder_states(encoded, lengths, self.observed_ids(labels, scored=scored, masked=masked))
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
