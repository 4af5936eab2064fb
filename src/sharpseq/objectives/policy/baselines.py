"""Baselines: what a reward is compared with before it pushes a sample up or down."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from sharpseq.objectives.policy.own_samples import OwnSamples

Baseline: TypeAlias = Literal["leave_one_out", "mean", "group_normalised", "none"]

_NEAR_ZERO = 1e-4
"""Added to a standard deviation, in rewards, as GRPO does."""


def advantages(samples: OwnSamples, rewards: Tensor, *, baseline: Baseline) -> Tensor:
    r"""Return how much better each sample is than the other samples of its input, without gradient, shape (N,).

    - ``leave_one_out``: :math:`r_i - \frac{1}{K-1} \sum_{j \ne i} r_j`. The policy gradient stays unbiased.
    - ``mean``: :math:`r_i - \frac1K \sum_j r_j`, the same times :math:`(K-1)/K`.
    - ``group_normalised``: that divided by the standard deviation of the group (with K − 1) plus 1e-4, as in GRPO. It
      changes what is maximised: inputs count alike, whether their samples differ much or little.
    - ``none``: the reward.

    Args:
        samples: The samples.
        rewards: Their rewards, shape (N,).
        baseline: Which.

    Raises:
        ValueError: If a group has a single sample and the baseline compares, or there is no such baseline.

    Example:
        >>> zeros = torch.zeros(3)
        >>> given = OwnSamples(zeros, zeros, zeros, zeros, torch.zeros(3, dtype=torch.long), torch.ones(3))
        >>> advantages(given, torch.tensor([1.0, 0.0, 0.5]), baseline="leave_one_out")
        tensor([ 0.7500, -0.7500,  0.0000])

    References:
        Kool et al. 2019 (leave-one-out); Shao et al. 2024, DeepSeekMath (GRPO).
    """
    if baseline not in get_args(Baseline):
        raise ValueError(f"`baseline` must be one of {', '.join(get_args(Baseline))}; got {baseline!r}")
    rewards = rewards.detach()
    if baseline == "none":
        return rewards
    samples.check_groups(f"baseline: {baseline}")
    centred = rewards - samples.group_mean(rewards)
    if baseline == "mean":
        return centred
    others = samples.group_sizes - 1
    if baseline == "leave_one_out":
        return centred * samples.group_sizes / others
    deviation = torch.sqrt(samples.group_sum(centred**2) / others)
    return centred / (deviation + _NEAR_ZERO)
