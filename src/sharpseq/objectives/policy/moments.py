"""Targets with given moments: the smallest change of a distribution that gives features the means that are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MOST_STEPS = 200
_TOLERANCE = 1e-10


def moment_weights(
    features: Tensor, moments: Tensor | Sequence[float], *, log_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Return λ such that features have given means :math:`\bar\mu` under a target.

    The target is :math:`p \propto a(y) e^{\lambda \cdot \phi(y)}`; of all distributions with these means it has the
    least KL(p‖a). Means under p are estimated from samples of any proposal q by self-normalised importance sampling,
    with the weights :math:`w e^{\lambda \cdot \phi}`, w = a/q. λ is the minimum of :math:`\log \sum_i w_i e^{\lambda
    \cdot \phi_i} - \lambda \cdot \bar\mu`, which is convex: it is found by Newton's method, where the paper takes
    stochastic gradients. With several inputs, each has its own normaliser and all share λ, and the means are over
    inputs as well; that is ours.

    Args:
        features: φ of each sample, shape (N, F).
        moments: The means :math:`\bar\mu`, F of them.
        log_weights: log a − log q of each sample in nats, shape (N,).
        groups: Number of each sample's input, from 0, shape (N,); one input by default.

    Returns:
        λ, shape (F,), float64.

    Raises:
        ValueError: If shapes disagree, or no reweighting of the samples has these means.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [1.0], [1.0]])  # a mean of 3/4
        >>> moment_weights(features, [0.5], log_weights=torch.zeros(4)).exp()  # 1 : 3 becomes 1 : 1
        tensor([0.3333], dtype=torch.float64)

    References:
        Khalifa et al. 2021, "A distributional approach to controlled text generation" (#105), section 2.2.
    """
    wanted = torch.as_tensor(moments, dtype=torch.float64, device=features.device)
    if features.dim() != 2 or features.shape[1] != len(wanted) or log_weights.shape != features.shape[:1]:
        raise ValueError(
            f"`features` must have shape (N, {len(wanted)}) and `log_weights` (N,); got {tuple(features.shape)} and "
            f"{tuple(log_weights.shape)}"
        )
    phi, base = features.double(), log_weights.double()
    numbers = torch.zeros(len(phi), dtype=torch.long, device=phi.device) if groups is None else groups
    weights = torch.zeros_like(wanted)
    value, slope, curvature = _dual(weights, phi, base, numbers, wanted)
    for _ in range(_MOST_STEPS):
        if slope.abs().max() < _TOLERANCE:
            return weights
        step = torch.linalg.lstsq(curvature + 1e-12 * torch.eye(len(wanted)).to(curvature), -slope[:, None]).solution[
            :, 0
        ]
        length = 1.0
        while length > 1e-8:
            tried = weights + length * step
            found = _dual(tried, phi, base, numbers, wanted)
            if found[0] <= value + 1e-4 * length * (slope @ step):
                break
            length /= 2
        else:
            break
        weights, (value, slope, curvature) = tried, found
        if weights.abs().max() > 1e4:
            break
    if slope.abs().max() < 1e-6:
        return weights
    raise ValueError(
        f"`moments` {wanted.tolist()} are out of reach: no reweighting of {len(phi)} samples has them, whose features "
        f"have means {[round(mean, 4) for mean in phi.mean(0).tolist()]} and go from {phi.amin(0).tolist()} to "
        f"{phi.amax(0).tolist()}; draw more samples or ask for less"
    )


def _dual(
    weights: Tensor, features: Tensor, log_weights: Tensor, groups: Tensor, moments: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the convex function, its gradient and its Hessian at λ."""
    num_groups = int(groups.max()) + 1
    logits = log_weights + features @ weights
    highest = logits.new_full((num_groups,), -torch.inf).scatter_reduce(0, groups, logits, "amax")
    shares = (logits - highest[groups]).exp()
    totals = shares.new_zeros(num_groups).index_add(0, groups, shares)
    probs = shares / totals[groups]
    means = features.new_zeros(num_groups, features.shape[1]).index_add(0, groups, probs[:, None] * features)
    centred = features - means[groups]
    value = (totals.log() + highest).mean() - weights @ moments
    curvature = (probs[:, None, None] * centred[:, :, None] * centred[:, None, :]).sum(0) / num_groups
    return value, means.mean(0) - moments, curvature
