"""A share of the uniform distribution in a loss of sequence scores."""

from __future__ import annotations

from torch import Tensor

from sharpseq.declarations import Number, constant
from sharpseq.objectives.transforms import Transform, derivative
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores


def smoothing_needs(label_smoothing: Number) -> ScoreRequest:
    """Return what label smoothing reads of a model beside the log-probabilities: nothing where the share is 0."""
    return ScoreRequest(vocab_mean=not isinstance(label_smoothing, int | float) or label_smoothing > 0)


def smoothed_loss(transform: Transform, scores: SequenceScores, *, label_smoothing: Number) -> Tensor:
    r"""Return :math:`-(1-\epsilon) f(g) - \epsilon\,[f'(g)]\,u` of each sequence, shape (B,).

    Here :math:`g = \frac1T \log p(y|x)`, u is the mean over tokens and vocabulary of log p, and the weight in brackets
    is detached, so that both terms keep their ratio whatever f is.

    Args:
        transform: f.
        scores: Scores of a batch; with ``vocab_mean_log_prob`` where ε is not 0.
        label_smoothing: ε in [0, 1).

    Raises:
        ValueError: If the scores lack ``vocab_mean_log_prob``.

    References:
        Shao et al. 2023, "Beyond MLE", section 3.3.2; Szegedy et al. 2016.
    """
    g, share = scores.normalized_log_prob(), constant(label_smoothing)
    loss = -transform(g)
    if not share > 0:
        return loss
    if scores.vocab_mean_log_prob is None:
        raise ValueError(
            "`label_smoothing` needs scores with `vocab_mean_log_prob`: score with `ScoreRequest(vocab_mean=True)`"
        )
    mean = scores.vocab_mean_log_prob / scores.num_tokens.clamp(min=1)
    smoothing_loss = -derivative(transform, g) * mean
    return (1 - share) * loss + share * smoothing_loss
