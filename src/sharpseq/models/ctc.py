"""CTC: upsample the source, predict a token or a blank for every frame, collapse."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding import EncoderOutput
from sharpseq.models.family import ModelFamily
from sharpseq.models.one_pass import OnePassConfig, OnePassModel
from sharpseq.scoring import LABELS_ONLY, ScoreRequest, SequenceScores, score_ctc


class CtcConfig(OnePassConfig):
    """Configuration of `Ctc`; see `OnePassConfig`.

    Args:
        upsampling_factor: Frames for each source token; a target can be at most that many times as long as the source.
        blank_token_id: Id of the blank; by default the padding, which no target contains.
    """

    model_type = "sharpseq-ctc"
    upsampling_factor: Annotated[int, Setting("Frames for each source token.", ge=1)] = 2
    blank_token_id: int | None = None

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        if self.blank_token_id is None:
            self.blank_token_id = self.pad_token_id


class Ctc(OnePassModel):
    """Encoder at source length, then each state split into frames, and decoder layers over the frames.

    Upsampling comes late: many encoder layers run at source length and few decoder layers at the upsampled length,
    which makes a one-pass model cheap. The frames are a learned split of the encoder's states. Saharia et al. copy
    embeddings instead; here the encoder has already read the source when frames are made.

    References:
        Libovický and Helcl 2018 (state splitting); Saharia et al. 2020.
    """

    config_class = CtcConfig
    config: CtcConfig
    default_decoder = "ctc_best_path"
    predicts_frames = True
    """Positions are frames, which have no target token of their own."""

    def __init__(self, config: CtcConfig) -> None:
        super().__init__(config)
        self.split = nn.Linear(config.d_model, config.upsampling_factor * config.d_model)
        self.post_init()

    def decode_frames(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return logits of frames (B, F, V) and True for the real ones (B, F), in one pass."""
        factor = self.config.upsampling_factor
        frames = self.split(encoded.hidden).unflatten(-1, (factor, -1)).flatten(1, 2)
        mask = encoded.attention_mask.repeat_interleave(factor, dim=1)
        hidden = self.decoder(self.add_positions(frames), mask, encoded.hidden, encoded.attention_mask)
        return self.project(hidden), mask

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, request: ScoreRequest = LABELS_ONLY
    ) -> SequenceScores:
        """Score targets by the sum over all alignments.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end; or (B·K, T), K of each source.
            request: What else to compute.

        Returns:
            Scores; a target that does not fit into the frames has ``log_prob`` −inf.
        """
        logits, frame_mask = self.decode_frames(self.encode(input_ids, attention_mask))
        blank = self.config.blank_token_id
        if blank is None:
            raise ValueError("`blank_token_id` must be given: CTC needs a blank")
        return score_ctc(logits, frame_mask, labels, blank=blank, request=request)


CTC = ModelFamily(
    CtcConfig,
    Ctc,
    Ctc.default_decoder,
    Declaration(
        "ctc",
        "one pass: twice as many frames as source tokens, blanks and repeats collapsed",
        "Saharia et al. 2020",
    ),
)
