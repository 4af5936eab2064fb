"""Divergences of two sets of vectors from their nearest neighbours: nothing is trained, nothing has a gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpseq.divergences.between_samples import check_samples
from sharpseq.divergences.f_divergence import FDivergence
from sharpseq.divergences.renyi import Renyi

_MOST_DIMENSIONS = 3
_ROWS_TOGETHER = 1024


@torch.no_grad()
def neighbour_ratios(*, target: Tensor, model: Tensor, k: int) -> Tensor:
    r"""Estimate target/model at each sample of the model by :math:`\frac{N}{M} \cdot \frac{n_t}{n_m + 1}`.

    Of the k nearest of all other samples, n_t are of the target and n_m = k − n_t of the model; M and N are the sizes
    of both sets. For one law the estimate has the mean 1 − 2⁻ᵏ if M = N. None is above N·k/M.

    Args:
        target: Samples of the target, shape (M, D).
        model: Samples of the model, shape (N, D).
        k: Neighbours looked at.

    Returns:
        Shape (N,), at least 0.

    Raises:
        ValueError: If the shapes do not fit, or there are fewer than k other samples.
    """
    check_samples(target, model)
    if not 1 <= k < len(target) + len(model):
        raise ValueError(f"`k` must be in [1, {len(target) + len(model) - 1}], the number of other samples; got {k}")
    pooled = torch.cat([target, model])
    found = []
    for start in range(0, len(model), _ROWS_TOGETHER):
        distances = torch.cdist(model[start : start + _ROWS_TOGETHER], pooled)
        own = torch.arange(len(distances), device=model.device)
        distances[own, len(target) + start + own] = math.inf
        found.append((distances.topk(k, largest=False).indices < len(target)).sum(1))
    num_target = torch.cat(found).to(model.dtype)
    return len(model) / len(target) * num_target / (k - num_target + 1)


@torch.no_grad()
def nearest_neighbour_divergence(
    *,
    target: Tensor,
    model: Tensor,
    divergence: FDivergence | Renyi | None = None,
    k: int | None = None,
    components: int | None = 2,
) -> Tensor:
    r"""Return D(target ‖ model) of two sets of vectors from the ratios among their nearest neighbours.

    The mean of f(u) over samples of the model, or for Rényi's divergence :math:`\frac{1}{\alpha - 1} \log` of the mean
    of :math:`u^\alpha`, with u of `neighbour_ratios`; at least 0. Where f(0) is infinite, a ratio of 0 counts as the
    smallest one above it. A number for comparisons of like with like: two samples of one law give about 2/k times
    f''(1), and ratios are cut off at k·N/M, so that what weighs large ones (α > 1, χ²) comes out too small. A larger k
    has less of the first and blurs more.

    In more than three dimensions the ratios say little: the result goes negative before it is cut at 0, and depends on
    the order of the two sets. So both are projected to the leading principal components of the pooled samples.

    Args:
        target: Samples of the target, shape (M, D).
        model: Samples of the model, shape (N, D).
        divergence: Which; None is Rényi's with α = ½.
        k: Neighbours looked at; None is the square root of N.
        components: Principal components that are kept where D is larger; None keeps all, for D up to 3.

    Returns:
        One number; +inf where no sample of the model has a neighbour among the target's.

    Raises:
        ValueError: If the shapes do not fit, or all of more than three dimensions would be kept.

    References:
        Noshad et al. 2017, "Direct estimation of information divergence using nearest neighbor ratios" (#21), whose KL
        runs the other way round.
    """
    check_samples(target, model)
    kept = min(target.shape[1], target.shape[1] if components is None else components)
    if not 1 <= kept <= _MOST_DIMENSIONS:
        raise ValueError(
            f"ratios of neighbours need 1 to {_MOST_DIMENSIONS} dimensions, and {kept} would be left; set `components`"
        )
    if kept < target.shape[1]:
        pooled = torch.cat([target, model])
        centre = pooled.mean(0)
        directions = torch.linalg.svd(pooled - centre, full_matrices=False).Vh[:kept].T
        target, model = (target - centre) @ directions, (model - centre) @ directions
    k = max(round(len(model) ** 0.5), 1) if k is None else k
    u = neighbour_ratios(target=target, model=model, k=k)
    if not bool((u > 0).any()):
        return u.new_tensor(math.inf)
    divergence = divergence or Renyi(0.5)
    if isinstance(divergence, Renyi):
        value = divergence.from_samples(
            target_log_probs=u.log(), model_log_probs=torch.zeros_like(u), sampled_from="model"
        )
    else:
        smallest = len(model) / len(target) / k if math.isinf(divergence.at_zero) else 0.0
        value = divergence.f(u.clamp(min=smallest)).mean()
    return value.clamp(min=0)
