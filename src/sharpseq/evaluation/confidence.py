"""How sure a model is of what it wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpseq.evaluation.measurement import FloatArray, Number

# A log-probability computed in float32 may end a little above 0.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ConfidenceReport:
    """Negative log-likelihood of a model's own outputs; small means confident.

    Args:
        nll_per_sentence: Mean over sentences of -log p(output), in nats: the papers' "Output NLL".
        nll_per_token: Sum of -log p(output) over the number of output tokens, in nats; NaN if there is no token.
        num_sentences: Number of outputs.
        num_tokens: Number of output tokens.
    """

    nll_per_sentence: Number
    nll_per_token: Number
    num_sentences: int
    num_tokens: int


def measure_confidence(log_prob: ArrayLike, num_tokens: ArrayLike) -> ConfidenceReport:
    """Summarise the log-probabilities of outputs under the model that wrote them.

    Args:
        log_prob: log p(output) in nats, at most 0, shape (N,).
        num_tokens: Length of every output in tokens, shape (N,).

    Returns:
        Means per sentence and per token.

    Raises:
        ValueError: If the shapes differ or are empty, a log-probability is NaN or positive, or a length is negative.

    Example:
        >>> report = measure_confidence([-6.0, -2.0], [3, 1])
        >>> report.nll_per_sentence, report.nll_per_token
        (4.0, 2.0)

    References:
        Shao et al. 2023, "Beyond MLE", table 4 and appendix B.1.1 ("prediction confidence").
    """
    log_probs, lengths = _checked(log_prob, num_tokens)
    total_nll, total_tokens = -float(log_probs.sum()) + 0.0, int(lengths.sum())
    return ConfidenceReport(
        nll_per_sentence=total_nll / len(log_probs),
        nll_per_token=total_nll / total_tokens if total_tokens else float("nan"),
        num_sentences=len(log_probs),
        num_tokens=total_tokens,
    )


def output_nll_per_token(log_prob: ArrayLike, num_tokens: ArrayLike) -> FloatArray:
    """Return -log p(output) / T of every output that is not empty: what a histogram of confidence shows.

    Args:
        log_prob: log p(output) in nats, at most 0, shape (N,).
        num_tokens: Length T of every output in tokens, shape (N,).

    Returns:
        Nats per token, shape (M,) with M at most N: an empty output has no tokens to be sure of.

    Raises:
        ValueError: If the shapes differ or are empty, a log-probability is NaN or positive, or a length is negative.

    Example:
        >>> output_nll_per_token([-6.0, -0.5, -2.0], [3, 0, 1])
        array([2., 2.])
    """
    log_probs, lengths = _checked(log_prob, num_tokens)
    written = lengths > 0
    return -log_probs[written] / lengths[written]


def _checked(log_prob: ArrayLike, num_tokens: ArrayLike) -> tuple[FloatArray, FloatArray]:
    log_probs = np.asarray(log_prob, dtype=np.float64)
    lengths = np.asarray(num_tokens, dtype=np.float64)
    if log_probs.ndim != 1 or log_probs.shape != lengths.shape or log_probs.size == 0:
        raise ValueError(
            "`log_prob` and `num_tokens` must have the same shape (N,) with N at least 1; "
            f"got {log_probs.shape} and {lengths.shape}"
        )
    # Written so that NaN, which compares false, is caught as well.
    wrong = np.flatnonzero(~(log_probs <= _ROUNDING))
    if wrong.size:
        raise ValueError(f"`log_prob` must be at most 0; got {log_probs[wrong[0]]} at index {wrong[0]}")
    wrong = np.flatnonzero(~(lengths >= 0))
    if wrong.size:
        raise ValueError(f"`num_tokens` must be at least 0; got {lengths[wrong[0]]} at index {wrong[0]}")
    return log_probs, lengths
