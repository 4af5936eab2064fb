"""What every model returns and every objective consumes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class SequenceScores(ModelOutput):
    r"""Scores of a batch of sequences, one number per sequence.

    Args:
        log_prob: :math:`\log p(y|x)` in nats, shape (B,), at least float32: the sum over target tokens, or over all
            alignments (CTC).
        num_tokens: Length :math:`T` that normalises ``log_prob``, in tokens, shape (B,).
        uniform_log_prob: :math:`\sum_t \frac1V \sum_v \log p_t(v)` in nats, shape (B,); what label smoothing needs.
        entropy: Sum over the scored tokens of the entropy of their prediction, in nats, shape (B,), without gradient.
        regularizers: Named extra terms in nats, each of shape (B,), unweighted (length prediction, KL of a latent,
            balance of a mixture of experts).
        latent_kl: KL divergence of the posterior of a latent variable from its prior, of every position and dimension,
            in nats, shape (B, T, D), 0 behind the end of a sequence; ``regularizers["kl"]`` is its sum.

    Example:
        >>> import torch
        >>> scores = SequenceScores(log_prob=torch.tensor([-6.0, -2.0]), num_tokens=torch.tensor([3, 2]))
        >>> scores.normalized_log_prob()
        tensor([-2., -1.])
    """

    log_prob: Tensor
    num_tokens: Tensor = None  # type: ignore[assignment]  # always given: ModelOutput allows one required field
    uniform_log_prob: Tensor | None = None
    entropy: Tensor | None = None
    regularizers: dict[str, Tensor] | None = None
    latent_kl: Tensor | None = None

    def normalized_log_prob(self) -> Tensor:
        r"""Return :math:`g = \log p(y|x) / T` in nats per token, shape (B,); an empty sequence has g = 0."""
        return self.log_prob / self.num_tokens.clamp(min=1)
