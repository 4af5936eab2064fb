"""CTC: upsample the source, predict a token or a blank for every frame, collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, get_args

import torch
from torch import Tensor, nn

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding import EncoderOutput
from sharpseq.decoding.inference import inference
from sharpseq.decoding.token_choice import most_probable_ids
from sharpseq.models.family import ModelFamily
from sharpseq.models.glancing import choose_glances
from sharpseq.models.intermediate_predictions import Feedback, PredictionFeedback, check_layers
from sharpseq.models.late_upsampling import UpsamplingModel
from sharpseq.models.one_pass import OnePassConfig
from sharpseq.scoring import IGNORED, LABELS_ONLY, ScoreRequest, SequenceScores, ctc_best_alignment, score_ctc


class CtcConfig(OnePassConfig):
    """Configuration of `Ctc`; see `OnePassConfig`.

    Args:
        upsampling_factor: Frames for each source token; a target can be at most that many times as long as the source.
        blank_token_id: Id of the blank; by default the padding, which no target contains.
        intermediate_layers: Decoder layers, counted from 1, that predict too; none by default.
        intermediate_feedback: What the layers after them read: the expected embedding of the prediction (``soft``), the
            embedding of the most probable token (``hard``), or ``none``.
        intermediate_weight: Weight of the mean of their losses, −log p(y|x)/T each, beside that of the last layer.
    """

    model_type = "sharpseq-ctc"
    upsampling_factor: Annotated[int, Setting("Frames for each source token.", ge=1)] = 2
    blank_token_id: int | None = None
    intermediate_layers: Annotated[
        Sequence[int], Setting("Decoder layers before the last, counted from 1, that predict too.")
    ] = ()
    intermediate_feedback: Annotated[
        Feedback, Setting("How the next layers read such a prediction: `soft`, `hard` or `none`.")
    ] = "soft"
    intermediate_weight: Annotated[float, Setting("Weight of the mean of their losses.", ge=0)] = 1.0

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        if self.blank_token_id is None:
            self.blank_token_id = self.pad_token_id
        self.intermediate_layers = list(self.intermediate_layers)
        check_layers(self.intermediate_layers, decoder_layers=self.decoder_layers)
        if self.intermediate_feedback not in get_args(Feedback):
            names = ", ".join(get_args(Feedback))
            raise ValueError(f"`intermediate_feedback` must be one of {names}; got {self.intermediate_feedback!r}")


class Ctc(UpsamplingModel):
    """Encoder at source length, then each state split into frames, and decoder layers over the frames.

    References:
        Libovický and Helcl 2018; Saharia et al. 2020; Nozaki and Komatsu 2021 and Huang et al. 2022 (predictions of
        earlier layers, fed back).
    """

    config_class = CtcConfig
    config: CtcConfig
    default_decoder = "ctc_best_path"

    def __init__(self, config: CtcConfig) -> None:
        super().__init__(config, factor=config.upsampling_factor)
        if config.intermediate_layers and config.intermediate_feedback != "none":
            self.feedback = nn.ModuleDict({str(layer): self._new_feedback() for layer in config.intermediate_layers})
        self.post_init()

    def _new_feedback(self) -> PredictionFeedback:
        is_hard = self.config.intermediate_feedback == "hard"
        return PredictionFeedback(self.config.d_model, blank=self.blank, is_hard=is_hard)

    @property
    def blank(self) -> int:
        """Id of the blank."""
        if self.config.blank_token_id is None:
            raise ValueError("`blank_token_id` must be given: CTC needs a blank")
        return self.config.blank_token_id

    def decode_frames(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return logits of frames (B, F, V) and True for the real ones (B, F), in one pass."""
        predictions, mask = self.decode_layers(encoded, keeps_all=False)
        return predictions[-1], mask

    def decode_layers(
        self, encoded: EncoderOutput, *, glanced_ids: Tensor | None = None, keeps_all: bool = True
    ) -> tuple[list[Tensor], Tensor]:
        """Return the logits (B, F, V) of every layer that predicts, the last one last, and the mask (B, F).

        Args:
            encoded: The source.
            glanced_ids: Target tokens shown to the decoder, shape (B, F), −100 for none.
            keeps_all: Whether predictions that no later layer reads are computed too.
        """
        is_fed_back = self.config.intermediate_feedback != "none"
        predictions: list[Tensor] = []

        def predict(layer: int, hidden: Tensor) -> Tensor:
            if layer not in self.config.intermediate_layers or not (is_fed_back or keeps_all):
                return hidden
            predictions.append(self.project(self.decoder.norm(hidden)))
            if not is_fed_back:
                return hidden
            fed: Tensor = self.feedback[str(layer)](
                hidden, predictions[-1], self.embedding.weight, glanced_ids=glanced_ids
            )
            return fed

        hidden, mask = self.upsampled_states(encoded, glanced_ids=glanced_ids, after_layer=predict)
        return [*predictions, self.project(hidden)], mask

    def _glances(self, encoded: EncoderOutput, labels: Tensor, *, ratio: float) -> Tensor:
        """Return tokens to show at the frames that the best alignment gives them, (B, F), −100 for none."""
        with inference(self):
            logits, mask = self.decode_frames(encoded)
            tokens = ctc_best_alignment(logits, mask.sum(1), labels, blank=self.blank)
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
            labels: Target ids without EOS, shape (B, T), −100 after the end; or (B·K, T), K of each source.
            request: What else to compute.
            glance_ratio: In training, the share of the wrong tokens that are shown to the decoder.

        Returns:
            Scores, over all frames whatever is shown; a target that does not fit into the frames has ``log_prob`` −inf.
            The losses of layers before the last are a regularizer, ``intermediate``.
        """
        encoded, glanced_ids = self.encode(input_ids, attention_mask), None
        if self.training and glance_ratio > 0 and labels.shape[1]:
            glanced_ids = self._glances(encoded, labels, ratio=glance_ratio)
        (*earlier, last), frame_mask = self.decode_layers(encoded, glanced_ids=glanced_ids)
        scores = score_ctc(last, frame_mask, labels, blank=self.blank, request=request)
        if not earlier:
            return scores
        others = [score_ctc(logits, frame_mask, labels, blank=self.blank) for logits in earlier]
        # What does not fit into the frames fits in no layer.
        mean = torch.stack([-each.normalized_log_prob() for each in others]).mean(0)
        return replace(scores, regularizers={"intermediate": mean.where(mean.isfinite(), 0)})


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
