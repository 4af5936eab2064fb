"""What steers a search over outputs besides the model: a bonus for each token, and a language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.decoding.language_model import LanguageModel

BONUSES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""The bonuses that tuning tries, in nats."""

LM_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""The weights of a language model that tuning tries."""


@dataclass(frozen=True)
class Steering:
    """What a search adds to the log-probability of the model.

    Args:
        token_bonus: For each token.
        lm_weight: Weight of the language model.
        language_model: None where it has no weight.
    """

    token_bonus: float
    lm_weight: float
    language_model: LanguageModel | None

    def start(self, num_rows: int, *, device: torch.device) -> Tensor:
        """Return the language model's states (R, W) of empty prefixes."""
        if self.language_model is None:
            return torch.empty(num_rows, 0, dtype=torch.long, device=device)
        return self.language_model.start(num_rows)

    def of_tokens(self, states: Tensor, tokens: Tensor, *, asked: Tensor) -> Tensor:
        """Return what tokens (B, N) add after each of K prefixes with states (B, K, W), (B, K, N).

        Args:
            states: What the language model remembers.
            tokens: Next tokens.
            asked: Where the language model is asked, shape (B, K, N); elsewhere only the bonus counts.
        """
        added = torch.full(asked.shape, self.token_bonus, dtype=torch.float32, device=asked.device)
        if self.language_model is not None:
            rows, prefixes, places = asked.nonzero(as_tuple=True)
            scores = self.language_model.score(states[rows, prefixes], tokens[rows, places, None])[:, 0]
            added[rows, prefixes, places] += self.lm_weight * scores
        return added

    def of_ends(self, states: Tensor) -> Tensor | float:
        """Return what the end adds to prefixes with states (B, K, W), (B, K)."""
        if self.language_model is None:
            return 0.0
        rows = states.flatten(0, 1)
        ends = torch.full((len(rows), 1), self.language_model.eos_token_id, device=rows.device)
        return self.lm_weight * self.language_model.score(rows, ends).view(states.shape[:2])

    def advance(self, states: Tensor, tokens: Tensor, *, grown: Tensor) -> Tensor:
        """Return states (B, K, W) after tokens (B, K) where prefixes have ``grown`` (B, K)."""
        if self.language_model is None:
            return states
        states = states.clone()
        states[grown] = self.language_model.advance(states[grown], tokens[grown])
        return states


def steering_of(
    language_model: LanguageModel | None, *, token_bonus: float, lm_weight: float, vocab_size: int
) -> Steering:
    """Return what steers a search, after checking that its language model is one of the model that writes.

    Args:
        language_model: The language model, if there is one; without a weight it is not asked.
        token_bonus: For each token, in nats.
        lm_weight: Weight of the language model.
        vocab_size: Number of token ids of the model that writes.

    Raises:
        ValueError: If a weight has no language model, or that has other tokens.
    """
    if language_model is None:
        if lm_weight:
            raise ValueError(f"`lm_weight` is {lm_weight:g}, and there is no language model; give one, or set it to 0")
    elif language_model.vocab_size != vocab_size:
        raise ValueError(
            f"`language_model` has {language_model.vocab_size} tokens, and the model that writes {vocab_size}; give "
            "one that was made with the same tokenizer"
        )
    return Steering(token_bonus, lm_weight, language_model if lm_weight else None)
