"""Forward and reverse Kullback-Leibler divergence of a pair of distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpseq.objectives.distillation.distribution_pair import DistributionPair


def forward_kl(pair: DistributionPair) -> Tensor:
    """Return KL(teacher ‖ student) in nats, shape (N,); infinite where the student rules out a teacher's token."""
    return _kl(pair.target, pair.model)


def reverse_kl(pair: DistributionPair) -> Tensor:
    """Return KL(student ‖ teacher) in nats, shape (N,); infinite where the teacher rules out a student's token."""
    return _kl(pair.model, pair.target)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    # Where the first has no mass nothing is added, whatever the second says.
    has_mass = first > -torch.inf
    difference = torch.where(has_mass, first, 0.0) - torch.where(has_mass, second, 0.0)
    return (first.exp() * difference).sum(1)
