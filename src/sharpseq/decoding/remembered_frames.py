"""A CTC model that runs once for a batch, however often the batch is decoded."""

from __future__ import annotations

from torch import Tensor

from sharpseq.decoding.inference import inference
from sharpseq.decoding.protocols import CtcConfiguration, CtcModel, EncoderOutput


class RememberedFrames:
    """Stands for a CTC model and returns the frames of the last batch again when it is asked for them again.

    The settings of a CTC decoder steer its search only, so that many settings cost one run of the network. It is held
    in evaluation mode, as in every decoding.

    Args:
        model: The model.

    Example:
        >>> import torch
        >>> from sharpseq.models import Ctc, CtcConfig
        >>> model = RememberedFrames(Ctc(CtcConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1)))
        >>> ids = torch.tensor([[5, 6, 0]])
        >>> first, again = (model.decode_frames(model.encode(ids, torch.ones_like(ids))) for _ in range(2))
        >>> first[0] is again[0]
        True
    """

    def __init__(self, model: CtcModel) -> None:
        self._model = model
        self._batch: tuple[Tensor, Tensor] | None = None
        self._encoded: EncoderOutput | None = None
        self._frames: tuple[Tensor, Tensor] | None = None

    @property
    def config(self) -> CtcConfiguration:
        """The model's configuration."""
        return self._model.config

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S), unless they are those of the last call: the same tensors, not equal ones."""
        if self._encoded is None or self._batch is None or self._batch[0] is not input_ids:
            with inference(self._model):
                self._encoded = self._model.encode(input_ids, attention_mask)
            self._batch, self._frames = (input_ids, attention_mask), None
        return self._encoded

    def decode_frames(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        """Return logits (B, F, V) and the mask of real frames (B, F)."""
        if self._frames is None or encoder_output is not self._encoded:
            with inference(self._model):
                self._frames = self._model.decode_frames(encoder_output)
            self._encoded = encoder_output
        return self._frames
