"""Predicting how long the target is before writing it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpseq.decoding import EncoderOutput
from sharpseq.models.one_pass import OnePassConfig, OnePassModel
from sharpseq.scoring import SequenceScores

MAX_DIFFERENCE = 50


class LengthPredictor(nn.Module):
    """Two-layer network on the mean source state; classes are differences to the source length in [−50, 50].

    The outermost classes stand for "at least 50 shorter" and "at least 50 longer".

    References:
        Lee et al. 2020, section 2.2; Shu et al. 2020.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.output = nn.Linear(width, 2 * MAX_DIFFERENCE + 1)

    def forward(self, encoded: EncoderOutput) -> Tensor:
        """Return log-probabilities of the classes in nats, float32, shape (B, 101)."""
        mask = encoded.attention_mask[:, :, None].to(encoded.hidden.dtype)
        mean = (encoded.hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return F.log_softmax(self.output(torch.relu(self.inner(mean))).float(), dim=-1)

    def loss(self, encoded: EncoderOutput, target_lengths: Tensor) -> Tensor:
        """Return −log p(length) in nats, shape (B,), for target lengths (B,)."""
        difference = target_lengths - encoded.attention_mask.sum(1)
        classes = difference.clamp(-MAX_DIFFERENCE, MAX_DIFFERENCE) + MAX_DIFFERENCE
        return F.nll_loss(self(encoded), classes, reduction="none")

    def lengths(self, encoded: EncoderOutput, *, max_length: int) -> tuple[Tensor, Tensor]:
        """Return the length that each class stands for and its log-probability, both (B, 101).

        Classes whose length is outside [1, ``max_length``] have log-probability −inf, unless no other class is left.
        """
        classes = torch.arange(-MAX_DIFFERENCE, MAX_DIFFERENCE + 1, device=encoded.hidden.device)
        lengths = encoded.attention_mask.sum(1, keepdim=True) + classes
        possible = (lengths >= 1) & (lengths <= max_length)
        log_probs = self(encoded)
        log_probs = log_probs.masked_fill(~possible & possible.any(1, keepdim=True), -torch.inf)
        return lengths.clamp(1, max_length), log_probs


class LengthPredictingModel(OnePassModel):
    """What families share that predict the target's length before they write the target."""

    def __init__(self, config: OnePassConfig) -> None:
        super().__init__(config)
        self.length_predictor = LengthPredictor(config.d_model)
        self.post_init()

    def predict_length_log_probs(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return candidate lengths and their log-probabilities in nats, both (B, C)."""
        return self.length_predictor.lengths(encoded, max_length=self.config.max_target_positions)

    def with_length_loss(self, scores: SequenceScores, encoded: EncoderOutput, lengths: Tensor) -> SequenceScores:
        """Return the scores with the regularizer ``length``, −log p(T|x) in nats, for target lengths (B,)."""
        length_loss = {"length": self.length_predictor.loss(encoded, lengths)}
        return replace(scores, regularizers=(scores.regularizers or {}) | length_loss)
