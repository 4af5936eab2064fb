"""What a loss needs of a model beside the log-probability of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

RowStatistic: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A number for each distribution over the vocabulary: (logits (N, V), rows (N,)) → (N,).

``rows`` says which of the positions that count these are, numbered from 0 through the whole batch, sequence by
sequence, so that a statistic can look up its own targets. It is computed a few rows at a time and again in the backward
pass. The rows of a sequence come together, or in blocks of a multiple of `BLOCK` if it is too long for that."""

BLOCK = 64
"""Positions of a sequence that a statistic may compare with each other, whatever the memory."""


@dataclass(frozen=True)
class ScoreRequest:
    """What is asked of a model; every model answers, ours and those of Hugging Face.

    Masked diffusion predicts at random positions, and refuses what is asked of single positions.

    Args:
        token_log_probs: The log-probability of every target token, ``scores.tokens``. Models that predict one token at
            a position always give it; CTC models, which sum over alignments, refuse.
        vocab_mean: The mean over the vocabulary of log p, which label smoothing reads.
        entropy: The entropy of the predictions, without gradient.
        hidden_states: The last hidden states with their output head, ``scores.positions``. A loss that calls the head
            itself works on one process and under data parallelism, not under FSDP, which takes weights away in between.
        statistics: Named numbers of each distribution, such as a divergence to a target, ``scores.positions``. Peak
            memory grows with a chunk of rows, never with all of the logits.
        ngram_order: Expected counts of n-grams of this order, ``scores.ngrams``, of CTC and graphs; 0 for none.

    Example:
        >>> ScoreRequest(entropy=True) | ScoreRequest(vocab_mean=True)  # doctest: +NORMALIZE_WHITESPACE
        ScoreRequest(token_log_probs=False, vocab_mean=True, entropy=True, hidden_states=False, statistics={},
                     ngram_order=0)
    """

    token_log_probs: bool = False
    vocab_mean: bool = False
    entropy: bool = False
    hidden_states: bool = False
    statistics: Mapping[str, RowStatistic] = field(default_factory=dict)
    ngram_order: int = 0

    @property
    def positions(self) -> bool:
        """Whether something of each position is asked for beside its label's log-probability."""
        return self.hidden_states or bool(self.statistics)

    def __or__(self, other: ScoreRequest) -> ScoreRequest:
        """Return a request for what either asks for; n-grams of two orders are one too many."""
        if self.ngram_order and other.ngram_order and self.ngram_order != other.ngram_order:
            raise ValueError(f"`ngram_order` must be one number; got {self.ngram_order} and {other.ngram_order}")
        return ScoreRequest(
            token_log_probs=self.token_log_probs or other.token_log_probs,
            vocab_mean=self.vocab_mean or other.vocab_mean,
            entropy=self.entropy or other.entropy,
            hidden_states=self.hidden_states or other.hidden_states,
            statistics={**self.statistics, **other.statistics},
            ngram_order=self.ngram_order or other.ngram_order,
        )


LABELS_ONLY = ScoreRequest()
"""Nothing beside the log-probability of the labels."""
