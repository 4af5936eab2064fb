r"""Mutual information of pairs from the scores of a critic, :math:`f_{ij} = T(x_i, y_j)`.

Pairs (i, i) are from the joint law, pairs i ≠ j from the product of the marginals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def mutual_information(
    scores: Tensor, *, estimator: Literal["smile", "donsker_varadhan", "nwj", "infonce"] = "smile", clip: float = 5.0
) -> Tensor:
    r"""Return an estimate of the mutual information in nats from the scores of a batch.

    - ``donsker_varadhan`` (MINE): :math:`\overline{f_{ii}} - \log \overline{e^{f_{ij}}}`; best critic log r + c. Of
      many pairs a bound from below; the variance grows like :math:`e^{2I}`.
    - ``smile``: the same with f clipped to ±clip in the second mean: a small variance, and a bias up or down, so no
      bound. Without gradient, because maximising it sends the critic to infinity; train with `critic_loss`.
    - ``nwj``: :math:`\overline{f_{ii}} - \overline{e^{f_{ij} - 1}}`; best critic 1 + log r. A bound from below, of
      large variance.
    - ``infonce``: :math:`\overline{f_{ii} - \log \sum_j e^{f_{ij}}} + \log n`. A bound from below, of small variance
      and at most log n.

    Means over i ≠ j leave the diagonal out. An estimate says little alone: for independent pairs it should be 0.

    Args:
        scores: f, shape (n, n), n at least 2.
        estimator: Which.
        clip: Of ``smile``, greater than 0.

    Returns:
        One number.

    Raises:
        ValueError: If the scores are not square, too few, or ``clip`` or ``estimator`` is not allowed.

    Example:
        >>> mutual_information(torch.zeros(4, 4), estimator="infonce")
        tensor(0.)

    References:
        Song and Ermon 2020 (#67); Belghazi et al. 2018; Nguyen et al. 2010; van den Oord et al. 2018.
    """
    num, apart = _apart(scores)
    paired = scores.diagonal()
    if estimator == "infonce":
        return (paired - scores.logsumexp(1)).mean() + math.log(num)
    if estimator == "nwj":
        return paired.mean() - (apart - 1).exp().mean()
    if estimator == "donsker_varadhan":
        return paired.mean() - (apart.logsumexp(0) - math.log(len(apart)))
    if estimator != "smile":
        raise ValueError(f"`estimator` must be 'smile', 'donsker_varadhan', 'nwj' or 'infonce'; got {estimator!r}")
    if not clip > 0:
        raise ValueError(f"`clip` must be greater than 0; got {clip}")
    clipped = apart.clamp(-clip, clip)
    return (paired.mean() - (clipped.logsumexp(0) - math.log(len(apart)))).detach()


def critic_loss(scores: Tensor, *, kind: Literal["jensen_shannon", "infonce"] = "jensen_shannon") -> Tensor:
    r"""Return what trains a critic whose scores `mutual_information` then reads.

    ``jensen_shannon``: :math:`\overline{\mathrm{softplus}(-f_{ii})} + \overline{\mathrm{softplus}(f_{ij})}`, whose best
    critic is log r; ``infonce``: the negative bound, whose best critic is log r + c(x).

    Args:
        scores: f, shape (n, n), n at least 2.
        kind: Which.

    Returns:
        One number.

    Raises:
        ValueError: If the scores are not square or too few, or ``kind`` is neither.
    """
    _, apart = _apart(scores)
    if kind == "infonce":
        return -mutual_information(scores, estimator="infonce")
    if kind != "jensen_shannon":
        raise ValueError(f"`kind` must be 'jensen_shannon' or 'infonce'; got {kind!r}")
    return F.softplus(-scores.diagonal()).mean() + F.softplus(apart).mean()


class CriticStep(NamedTuple):
    """What one batch says and teaches.

    Args:
        value: The estimate, without gradient.
        loss: What the critic's optimizer minimises.
    """

    value: Tensor
    loss: Tensor


def wasserstein_dependency(
    critic: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    penalty: float = 10.0,
    generator: torch.Generator | None = None,
) -> CriticStep:
    r"""Return a step of :math:`\sup_f E_{p(x,y)} f - E_{p(x)p(y)} f` over critics of slope 1: dependence by transport.

    Unlike mutual information it is finite where y is a function of x, and it does not stop at log n. It depends on the
    scale of x and y (normalise them), and for independent pairs it is above 0 by the noise of the sample: subtract the
    value for shuffled pairs. The slope is held at 1 by :math:`\lambda E (\|\nabla f\| - 1)^2` between paired and
    shuffled points.

    Args:
        critic: From x (n, D) and y (n, E) to scores (n,).
        x: First vectors, shape (n, D), n at least 2.
        y: Second vectors, shape (n, E).
        penalty: λ, at least 0.
        generator: Of the shuffle and of the points in between.

    Returns:
        The estimate and the critic's loss.

    Raises:
        ValueError: If the shapes do not fit or the penalty is negative.

    References:
        Ozair et al. 2019, "Wasserstein dependency measure" (#76); Gulrajani et al. 2017.
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"`x` and `y` need the same number of vectors, at least 2; got {len(x)} and {len(y)}")
    if not penalty >= 0:
        raise ValueError(f"`penalty` must be at least 0; got {penalty}")
    # A shift by a random number of places leaves no pair together.
    places = int(torch.randint(1, len(y), (), generator=generator))
    shuffled = y.roll(places, 0)
    value = critic(x, y).mean() - critic(x, shuffled).mean()
    share = torch.rand(len(y), 1, generator=generator, dtype=torch.float32).to(y)
    between = [x.detach().requires_grad_(), torch.lerp(shuffled, y, share).detach().requires_grad_()]
    slopes = torch.autograd.grad(critic(*between).sum(), between, create_graph=True, materialize_grads=True)
    steepness = torch.cat(slopes, 1).norm(dim=1)
    return CriticStep(value.detach(), penalty * ((steepness - 1) ** 2).mean() - value)


def _apart(scores: Tensor) -> tuple[int, Tensor]:
    """Return the size of a batch and the scores of what is not paired, in one line."""
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ValueError(f"`scores` must be of shape (n, n), n at least 2; got {tuple(scores.shape)}")
    off = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return len(scores), scores[off]
