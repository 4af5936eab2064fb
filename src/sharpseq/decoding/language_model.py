"""What a search asks of a language model: scores of the next token, for many prefixes side by side."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class LanguageModel(Protocol):
    """A model p(token | prefix) that a search can carry along with its prefixes.

    A state is a row of whole numbers, all that the model remembers of a prefix; a search moves, copies and drops rows
    as it does with its prefixes. Any search over outputs can use it, however its prefixes come about.
    """

    @property
    def vocab_size(self) -> int:
        """Number of token ids, those of the model that writes."""
        ...

    @property
    def eos_token_id(self) -> int:
        """Id that stands for the end of an output."""
        ...

    def start(self, num_rows: int) -> Tensor:
        """Return the state of the empty prefix, (R, W) int64."""
        ...

    def score(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return log p(token | state) in nats, (R, N), of N tokens (R, N) after each of R states (R, W)."""
        ...

    def advance(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the states (R, W) after one more token (R,) each."""
        ...
