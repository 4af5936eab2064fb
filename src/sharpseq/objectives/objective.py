"""The role of an objective, and the weight it gives each sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores

PROPERTIES = (
    "loss_per_sequence_in_the_dtype_of_the_scores",
    "finite_at_extremes",
    "batch_equals_singles",
    "ignores_padding",
    "empty_sequence_is_a_constant",
)
"""What every objective of sequence scores keeps; see ``tests/contracts/objective_properties.py``."""


class Objective(Protocol):
    """Anything that turns `SequenceScores` into a loss of each sequence, shape (B,), not reduced.

    One that reads more than the log-probabilities says so in an attribute ``needs``, a `ScoreRequest`.
    """

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence."""
        ...


def needs_of(objective: Objective) -> ScoreRequest:
    """Return what an objective reads of a model beside the log-probabilities.

    Example:
        >>> from sharpseq import MaximumLikelihood
        >>> needs_of(MaximumLikelihood(label_smoothing=0.1)).vocab_mean
        True
    """
    needs: ScoreRequest = getattr(objective, "needs", ScoreRequest())
    return needs


def sequence_weights(objective: Objective, scores: SequenceScores) -> Tensor:
    r"""Return the weight that an objective gives to each sequence, relative to maximum likelihood.

    It is :math:`-T\,\partial \ell / \partial \log p`, with the smoothing term counted in, which for a
    convex-composition loss is exactly :math:`f'(g)`; of a loss of tokens it is
    :math:`-\sum_t \partial \ell / \partial \log p_t`. The mean and the spread over a batch show when training starves.

    Args:
        objective: Any objective, without schedules.
        scores: Scores of a batch; not modified, and no gradient reaches them.

    Returns:
        Detached weights, shape (B,).

    Example:
        >>> from sharpseq import ConvexComposition, Exponential
        >>> scores = SequenceScores(log_prob=torch.tensor([0.0, -2.0]), num_tokens=torch.tensor([1, 1]))
        >>> sequence_weights(ConvexComposition(Exponential(2.0)), scores)
        tensor([2.0000, 0.0366])
    """
    log_prob = scores.log_prob.detach().requires_grad_()
    mean, tokens = scores.vocab_mean_log_prob, scores.tokens
    of_sequences = [log_prob]
    if mean is not None:
        mean = mean.detach().requires_grad_()
        of_sequences.append(mean)
    if tokens is not None:
        tokens = replace(tokens, log_probs=tokens.log_probs.detach().requires_grad_())
    inputs = of_sequences if tokens is None else [*of_sequences, tokens.log_probs]
    with torch.enable_grad():
        loss = objective(replace(scores, log_prob=log_prob, vocab_mean_log_prob=mean, tokens=tokens))
        slopes = torch.autograd.grad(loss.sum(), inputs, allow_unused=True)
    found = [slope for slope in slopes[: len(of_sequences)] if slope is not None]
    weights = -sum(found, torch.zeros_like(log_prob)) * scores.num_tokens
    if tokens is not None and slopes[-1] is not None:
        weights = weights - tokens.sum_over_tokens(slopes[-1])
    return weights
