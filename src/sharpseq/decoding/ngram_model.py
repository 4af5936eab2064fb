"""n-gram language models with back-off, looked up for many prefixes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sharpseq.scoring import length_mask

UNSEEN = -1
"""Stands for a history that is in no n-gram."""


class NgramOrder(NamedTuple):
    """The n-grams of one order, sorted by key.

    Args:
        keys: For a single token its id; for a longer n-gram, place of its first n − 1 tokens among the (n − 1)-grams,
            times V + 1, plus the last token. Increasing, shape (N,) int64.
        log_probs: log p(last token | the others) in nats, shape (N,).
        backoffs: log of the weight that the n-gram leaves to its own suffix when it is a history; 0 where it is none,
            shape (N,).
    """

    keys: Tensor
    log_probs: Tensor
    backoffs: Tensor


@dataclass(frozen=True)
class NgramModel:
    r"""An n-gram model: the probability of the longest n-gram that is known, else the weight of a shorter history.

    .. math:: p(w | h) = p_n(w | h) \text{ if } hw \text{ is known, else } b(h)\, p(w | h')

    with :math:`h'` the history without its first token, and b(h) = 1 for an unseen one.

    Args:
        orders: The n-grams of order 1, 2 and so on; those of order 1 are all V tokens and the begin mark, id V.
        eos_token_id: Id that stands for the end.

    Raises:
        ValueError: If there are fewer than two orders.

    Note:
        A state is the place of the last 1, 2 … n − 1 tokens among the n-grams of that order, `UNSEEN` where they are
        none. A score is one binary search for each order, among all n-grams of it.
    """

    orders: tuple[NgramOrder, ...]
    eos_token_id: int

    def __post_init__(self) -> None:
        if len(self.orders) < 2:
            raise ValueError(f"`orders` must be at least 2; got {len(self.orders)}")

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.orders)

    @property
    def vocab_size(self) -> int:
        """Number of token ids V."""
        return len(self.orders[0].keys) - 1

    @property
    def num_ngrams(self) -> list[int]:
        """How many n-grams there are of each order."""
        return [len(each.keys) for each in self.orders]

    def to(self, device: torch.device) -> NgramModel:
        """Return the model on another device."""
        orders = tuple(NgramOrder(*(part.to(device) for part in order)) for order in self.orders)
        return NgramModel(orders, self.eos_token_id)

    def start(self, num_rows: int) -> Tensor:
        """Return the state of the empty prefix, (R, n − 1): the begin mark and nothing before it."""
        states = self.orders[0].keys.new_full((num_rows, self.order - 1), UNSEEN)
        states[:, 0] = self.vocab_size
        return states

    def score(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return log p(token | state) in nats, (R, N), of N tokens (R, N) after each of R states (R, n − 1)."""
        scores = self.orders[0].log_probs[tokens]
        for length in range(1, self.order):
            history = states[:, length - 1, None]
            places = self._places(history, tokens, order=length)
            left = self.orders[length - 1].backoffs[history.clamp(min=0)].masked_fill(history == UNSEEN, 0)
            known = self.orders[length].log_probs[places.clamp(min=0)]
            scores = torch.where(places == UNSEEN, scores + left, known)
        return scores

    def advance(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the states (R, n − 1) after one more token (R,) each."""
        longer = [self._places(states[:, length - 1], tokens, order=length) for length in range(1, self.order - 1)]
        return torch.stack([tokens, *longer], dim=1)

    def log_prob(self, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        """Return log p of whole outputs (B, T) and their end, in nats, shape (B,).

        Args:
            sequences: Token ids, shape (B, T).
            num_tokens: Their lengths, shape (B,).
        """
        real = length_mask(num_tokens, width=sequences.shape[1])
        states = self.start(len(sequences))
        total = self.orders[0].log_probs.new_zeros(len(sequences))
        ends = torch.full_like(num_tokens, self.eos_token_id)
        for position in range(sequences.shape[1]):
            tokens = torch.where(real[:, position], sequences[:, position], ends)
            total = total + self.score(states, tokens[:, None])[:, 0].masked_fill(~real[:, position], 0)
            states = torch.where(real[:, position, None], self.advance(states, tokens), states)
        return total + self.score(states, ends[:, None])[:, 0]

    def _places(self, history: Tensor, tokens: Tensor, *, order: int) -> Tensor:
        """Return the place of history + token among the n-grams one longer than the history, `UNSEEN` for none.

        Args:
            history: Places of histories of ``order`` tokens, broadcast against ``tokens``.
            tokens: Next tokens.
            order: Length of the histories.
        """
        keys = self.orders[order].keys
        wanted = (history * (self.vocab_size + 1) + tokens).contiguous()
        if not len(keys):
            return torch.full_like(wanted, UNSEEN)
        places = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return places.masked_fill((keys[places] != wanted) | (history == UNSEEN), UNSEEN)
