"""A one-pass model that runs once for a batch, however often the batch is decoded."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sharpseq.decoding.inference import inference
from sharpseq.decoding.protocols import CtcModel, DagModel, EncoderOutput
from sharpseq.scoring import DagGraph


class RememberedPass:
    """Stands for a CTC model or one of graphs, and returns what it said of the last batch when it is asked again.

    The settings of their decoders steer the search only, so that many settings cost one run of the network. It is held
    in evaluation mode, as in every decoding.

    Args:
        model: The model.

    Example:
        >>> import torch
        >>> from sharpseq.models import Ctc, CtcConfig
        >>> model = RememberedPass(Ctc(CtcConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1)))
        >>> ids = torch.tensor([[5, 6, 0]])
        >>> first, again = (model.decode_frames(model.encode(ids, torch.ones_like(ids))) for _ in range(2))
        >>> first[0] is again[0]
        True
    """

    def __init__(self, model: CtcModel | DagModel) -> None:
        self._model: Any = model
        self._batch: tuple[Tensor, Tensor] | None = None
        self._encoded: EncoderOutput | None = None
        self._said: Any = None

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._model.config

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode sources (B, S), unless they are those of the last call: the same tensors, not equal ones."""
        if self._encoded is None or self._batch is None or self._batch[0] is not input_ids:
            with inference(self._model):
                self._encoded = self._model.encode(input_ids, attention_mask)
            self._batch, self._said = (input_ids, attention_mask), None
        return self._encoded

    def decode_frames(self, encoder_output: EncoderOutput, /) -> tuple[Tensor, Tensor]:
        """Return logits (B, F, V) and the mask of real frames (B, F), of a CTC model."""
        frames: tuple[Tensor, Tensor] = self._once("decode_frames", encoder_output)
        return frames

    def decode_graph(self, encoder_output: EncoderOutput, /) -> DagGraph:
        """Return the graphs of sources, of a model of graphs."""
        graph: DagGraph = self._once("decode_graph", encoder_output)
        return graph

    def _once(self, method: str, encoder_output: EncoderOutput) -> Any:
        if self._said is None or encoder_output is not self._encoded:
            with inference(self._model):
                self._said = getattr(self._model, method)(encoder_output)
            self._encoded = encoder_output
        return self._said
