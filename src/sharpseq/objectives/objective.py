"""The role of an objective, and the weight it gives each sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from sharpseq.scoring.sequence_scores import SequenceScores


class Objective(Protocol):
    """Anything that turns `SequenceScores` into a loss of each sequence, shape (B,), not reduced."""

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence."""
        ...


def sequence_weights(objective: Objective, scores: SequenceScores) -> Tensor:
    r"""Return the weight that an objective gives to each sequence, relative to maximum likelihood.

    It is :math:`-T\,\partial \ell / \partial \log p`, with the smoothing term counted in, which for a
    convex-composition loss is exactly :math:`f'(g)`. The mean and the spread over a batch say when training starves.

    Args:
        objective: Any objective.
        scores: Scores of a batch; not modified, and no gradient reaches them.

    Returns:
        Detached weights, shape (B,).

    Example:
        >>> from sharpseq import convex_composition, exponential
        >>> scores = SequenceScores(log_prob=torch.tensor([0.0, -2.0]), num_tokens=torch.tensor([1, 1]))
        >>> sequence_weights(convex_composition(exponential(2.0)), scores)
        tensor([2.0000, 0.0366])
    """
    log_prob = scores.log_prob.detach().requires_grad_()
    leaves = [log_prob]
    uniform = scores.uniform_log_prob
    if uniform is not None:
        uniform = uniform.detach().requires_grad_()
        leaves.append(uniform)
    with torch.enable_grad():
        loss = objective(replace(scores, log_prob=log_prob, uniform_log_prob=uniform))
        slopes = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
    total = sum((slope for slope in slopes if slope is not None), torch.zeros_like(log_prob))
    return -total * scores.num_tokens
