"""CTC: upsample the source, predict a token or a blank for every frame, collapse."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding import EncoderOutput
from sharpseq.decoding.inference import inference
from sharpseq.decoding.token_choice import most_probable_ids
from sharpseq.models.family import ModelFamily
from sharpseq.models.glancing import choose_glances
from sharpseq.models.late_upsampling import UpsamplingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, ctc_best_alignment, score_ctc


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


class Ctc(UpsamplingModel):
    """Encoder at source length, then each state split into frames, and decoder layers over the frames.

    References:
        Libovický and Helcl 2018; Saharia et al. 2020.
    """

    config_class = CtcConfig
    config: CtcConfig
    default_decoder = "ctc_best_path"

    def __init__(self, config: CtcConfig) -> None:
        super().__init__(config, factor=config.upsampling_factor)
        self.post_init()

    def decode_frames(self, encoded: EncoderOutput, *, glanced_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits of frames (B, F, V) and True for the real ones (B, F), in one pass.

        Args:
            encoded: The source.
            glanced_ids: Target tokens shown to the decoder, shape (B, F), −100 for none.
        """
        hidden, mask = self.upsampled_states(encoded, glanced_ids=glanced_ids)
        return self.project(hidden), mask

    def _glances(self, encoded: EncoderOutput, labels: Tensor, blank: int, *, ratio: float) -> Tensor:
        """Return tokens to show at the frames that the best alignment gives them, (B, F), −100 for none."""
        with inference(self):
            logits, mask = self.decode_frames(encoded)
            tokens = ctc_best_alignment(logits, mask.sum(1), labels, blank=blank)
            aligned = labels.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, IGNORED)
            is_wrong = (most_probable_ids(logits) != aligned) & (tokens >= 0)
            # A token is right if every frame that writes it is.
            each = tokens[:, :, None] == torch.arange(labels.shape[1], device=labels.device)
            num_wrong = (each & is_wrong[:, :, None]).any(1).sum(1)
        return choose_glances(aligned, num_wrong, ratio=ratio)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        *,
        request: ScoreRequest = LABELS_ONLY,
        glance_ratio: float = 0.0,
    ) -> SequenceScores:
        """Score targets by the sum over all alignments.

        Args:
            input_ids: Source ids, shape (B, S).
            attention_mask: 1 for real tokens, shape (B, S).
            labels: Target ids without EOS, shape (B, T), −100 after the end.
            request: What else to compute.
            glance_ratio: In training, the share of the wrong tokens that are shown to the decoder.

        Returns:
            Scores, over all frames whatever is shown; a target that does not fit into the frames has ``log_prob`` −inf.
        """
        blank = self.config.blank_token_id
        if blank is None:
            raise ValueError("`blank_token_id` must be given: CTC needs a blank")
        encoded, glanced_ids = self.encode(input_ids, attention_mask), None
        if self.training and glance_ratio > 0 and labels.shape[1]:
            glanced_ids = self._glances(encoded, labels, blank, ratio=glance_ratio)
        logits, frame_mask = self.decode_frames(encoded, glanced_ids=glanced_ids)
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
