"""What every model returns and every loss consumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class TokenScores(ModelOutput):
    r"""Scores of a batch, one number for each target token; `to_sequences` adds them up.

    Args:
        log_probs: :math:`\log p(y_t|\dots)` in nats, shape (B, T), at least float32, 0 where nothing is scored.
        mask: True where a label is scored, shape (B, T).
        sequence_ids: Of packed rows: the number of the sequence that each label belongs to, from 0 over the whole
            batch, shape (B, T). None where a row is a sequence.
        vocab_mean_log_probs: :math:`\frac1V \sum_v \log p_t(v)` in nats, shape (B, T).
        entropies: Entropy of the prediction in nats, shape (B, T), without gradient.

    Example:
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> TokenScores(torch.tensor([[-1.0, -2.0], [-4.0, 0.0]]), mask).to_sequences().log_prob
        tensor([-3., -4.])
    """

    log_probs: Tensor
    mask: Tensor = None  # type: ignore[assignment]  # always given: ModelOutput allows one required field
    sequence_ids: Tensor | None = None
    vocab_mean_log_probs: Tensor | None = None
    entropies: Tensor | None = None

    def to_sequences(self) -> SequenceScores:
        """Return the sums over the tokens of each sequence, (B,) or (S,) for S packed sequences, with the tokens."""
        means, entropies = self.vocab_mean_log_probs, self.entropies
        return SequenceScores(
            log_prob=self.sum_over_tokens(self.log_probs),
            num_tokens=torch.bincount(self._owners(), minlength=self._num_sequences()),
            vocab_mean_log_prob=None if means is None else self.sum_over_tokens(means),
            entropy=None if entropies is None else self.sum_over_tokens(entropies),
            tokens=self,
        )

    def sum_over_tokens(self, values: Tensor) -> Tensor:
        """Add up values of tokens (B, T), where a label is scored, to those of sequences, (B,) or (S,)."""
        total = values.new_zeros(self._num_sequences())
        return total.index_add(0, self._owners(), values[self.mask])

    def _num_sequences(self) -> int:
        if self.sequence_ids is None:
            return len(self.mask)
        return int(self.sequence_ids.max()) + 1 if self.sequence_ids.numel() else 0

    def _owners(self) -> Tensor:
        """Return the sequence of each scored token, row by row, shape (N,)."""
        if self.sequence_ids is not None:
            return self.sequence_ids[self.mask].long()
        rows = torch.arange(len(self.mask), device=self.mask.device)
        return rows[:, None].expand_as(self.mask)[self.mask]


@dataclass
class PositionScores(ModelOutput):
    """What was asked for about each distribution that a model predicts: of target tokens, or of the frames of CTC.

    Args:
        mask: True for the positions that belong to a target, shape (B, P).
        statistics: Named numbers, shape (B, P) each, 0 outside the mask.
        hidden_states: Last hidden states, shape (B, P, D).
        head: From hidden states (N, D) to logits (N, V).
    """

    mask: Tensor
    statistics: dict[str, Tensor] | None = None
    hidden_states: Tensor | None = None
    head: Callable[[Tensor], Tensor] | None = None


@dataclass
class NgramScores(ModelOutput):
    r"""What a model expects to write, compared with targets: n-grams of one order, summed over all outputs.

    Args:
        matches: :math:`\sum_g \min(\mathbb E[\#g], \#_y g)` over the different n-grams g of the target y, shape (B,).
        num_expected: Expected number of n-grams of the output, shape (B,).
        expected_length: Expected number of its tokens, shape (B,).
        num_reference: n-grams of the target, shape (B,).
        num_tokens: Tokens of the target, shape (B,).
    """

    matches: Tensor
    num_expected: Tensor = None  # type: ignore[assignment]  # always given: ModelOutput allows one required field
    expected_length: Tensor = None  # type: ignore[assignment]
    num_reference: Tensor = None  # type: ignore[assignment]
    num_tokens: Tensor = None  # type: ignore[assignment]


@dataclass
class SequenceScores(ModelOutput):
    r"""Scores of a batch of sequences, one number for each sequence.

    Args:
        log_prob: :math:`\log p(y|x)` in nats, shape (B,), at least float32: the sum over target tokens, or over all
            alignments (CTC).
        num_tokens: Length :math:`T` that normalises ``log_prob``, in tokens, shape (B,).
        vocab_mean_log_prob: :math:`\sum_t \frac1V \sum_v \log p_t(v)` in nats, shape (B,); what label smoothing reads.
        entropy: Sum over the scored tokens of the entropy of their prediction, in nats, shape (B,), without gradient.
        regularizers: Named extra terms in nats, each of shape (B,), unweighted (length prediction, KL of a latent,
            balance of a mixture of experts, predictions of earlier layers).
        latent_kl: KL divergence of the posterior of a latent variable from its prior, of every position and dimension,
            in nats, shape (B, T, D), 0 after the end of a sequence; ``regularizers["kl"]`` is its sum.
        tokens: Scores of the single tokens, where the model predicts one token at a position; None for CTC.
        positions: Further facts about each predicted distribution, where a `ScoreRequest` asked for them.
        ngrams: What the model expects to write, where a `ScoreRequest` asked for it; of CTC and graphs.
        is_bound: True where ``log_prob`` is a lower bound of the log-probability, or an estimate of one (masked
            diffusion), or only a part of one: with a latent it is :math:`\log p(y|z,x)`, and minus the KL it bounds
            :math:`\log p(y|x)` from below.

    Example:
        >>> import torch
        >>> scores = SequenceScores(log_prob=torch.tensor([-6.0, -2.0]), num_tokens=torch.tensor([3, 2]))
        >>> scores.normalized_log_prob()
        tensor([-2., -1.])
    """

    log_prob: Tensor
    num_tokens: Tensor = None  # type: ignore[assignment]  # always given: ModelOutput allows one required field
    vocab_mean_log_prob: Tensor | None = None
    entropy: Tensor | None = None
    regularizers: dict[str, Tensor] | None = None
    latent_kl: Tensor | None = None
    tokens: TokenScores | None = None
    positions: PositionScores | None = None
    ngrams: NgramScores | None = None
    is_bound: bool | None = None

    def normalized_log_prob(self) -> Tensor:
        r"""Return :math:`g = \log p(y|x) / T` in nats per token, shape (B,); an empty sequence has g = 0."""
        return self.log_prob / self.num_tokens.clamp(min=1)

    def token_scores(self) -> TokenScores:
        """Return the scores of the single tokens.

        Raises:
            ValueError: If the model scores sequences only.
        """
        if self.tokens is None:
            raise ValueError(
                "the loss reads the log-probability of each token, and this model (CTC, DAG) scores whole "
                "sequences only; choose a loss of sequences, or a model that predicts one token at a position"
            )
        return self.tokens

    def ngram_scores(self) -> NgramScores:
        """Return what the model expects to write.

        Raises:
            ValueError: If the model does not say.
        """
        if self.ngrams is None:
            raise ValueError(
                "the loss reads the n-grams that the model expects to write, which only CTC and DAG sum over all "
                "outputs; choose another loss or one of these models"
            )
        return self.ngrams
