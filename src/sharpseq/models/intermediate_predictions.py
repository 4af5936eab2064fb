"""Predictions of decoder layers before the last, and what the layers after them are given back."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from sharpseq.decoding.token_choice import most_probable_ids
from sharpseq.scoring import IGNORED

Feedback: TypeAlias = Literal["soft", "hard", "none"]


class PredictionFeedback(nn.Module):
    r"""Add what was predicted to the states: :math:`h \leftarrow h + W e`.

    With soft feedback :math:`e = \sum_v p(v)\,e_v` is the expected embedding, through which gradients flow; with hard
    feedback it is the embedding of the most probable token, and the choice has no gradient. The blank, whose
    embedding is that of padding and therefore zero, has a vector of its own. Where the decoder is shown a target token,
    hard feedback is the embedding of that token, so that later layers meet right and wrong predictions.

    Args:
        width: D.
        blank: Id of the blank.
        is_hard: Which of the two.

    References:
        Nozaki and Komatsu 2021, "Relaxing the conditional independence assumption of CTC-based ASR" (soft, with a
        matrix V × D in place of the embedding); Huang et al. 2022, "Non-autoregressive translation with layer-wise
        prediction and deep supervision" (hard, concatenated, mixed with shown tokens).
    """

    def __init__(self, width: int, *, blank: int, is_hard: bool) -> None:
        super().__init__()
        self.blank, self.is_hard = blank, is_hard
        self.map = nn.Linear(width, width)
        self.blank_embedding = nn.Parameter(torch.zeros(width))

    def forward(
        self, hidden: Tensor, logits: Tensor, embedding: Tensor, *, glanced_ids: Tensor | None = None
    ) -> Tensor:
        """Return the states with feedback, shape (B, F, D).

        Args:
            hidden: States, shape (B, F, D).
            logits: What they predict, shape (B, F, V).
            embedding: Of the tokens, shape (V, D).
            glanced_ids: Target tokens shown to the decoder, shape (B, F), −100 for none; for hard feedback only.
        """
        if self.is_hard:
            choice = most_probable_ids(logits.detach())
            if glanced_ids is not None:
                choice = choice.where(glanced_ids == IGNORED, glanced_ids)
            is_blank = (choice == self.blank)[..., None]
            fed_back = torch.where(is_blank, self.blank_embedding.to(embedding), embedding[choice])
        else:
            probs = logits.softmax(-1)
            fed_back = probs @ embedding + probs[..., self.blank, None] * self.blank_embedding
        fed: Tensor = hidden + self.map(fed_back)
        return fed


def check_layers(layers: list[int], *, decoder_layers: int) -> None:
    """Check which layers predict before the last.

    Raises:
        ValueError: If a layer is given twice, does not exist, or is the last, which predicts anyway.
    """
    for layer in layers:
        if not 1 <= layer < decoder_layers:
            raise ValueError(
                f"`intermediate_layers` must be in [1, {decoder_layers - 1}], decoder layers before the last, which "
                f"predicts anyway; got {layer}"
            )
    if sorted(set(layers)) != layers:
        raise ValueError(f"`intermediate_layers` must rise, without repeats; got {layers}")
