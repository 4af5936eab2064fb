"""Optimal transport: the entropic plan, the Sinkhorn divergence, the sliced Wasserstein distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Setting
from sharpseq.divergences.between_samples import PROPERTIES, SampleDivergence, check_samples, squared_distances


class Transport(NamedTuple):
    r"""A solved problem of entropic transport.

    Args:
        value: :math:`\min_P \langle P, C \rangle + \varepsilon \mathrm{KL}(P \| ab^\top)`, one number, with its
            gradient to the costs.
        plan: P, shape (N, M), without gradient; its columns sum to b.
        error: By how much its rows miss a, the sum of absolute differences.
    """

    value: Tensor
    plan: Tensor
    error: float


def entropic_transport(
    costs: Tensor, *, epsilon: float, tolerance: float = 1e-6, max_iterations: int = 2000
) -> Transport:
    r"""Move one uniform distribution to another at least cost plus :math:`\varepsilon\,\mathrm{KL}(P \| ab^\top)`.

    Sinkhorn's iteration on potentials in log space, with ε falling from the largest cost. The gradient to the costs is
    the plan (envelope theorem), so nothing of the iteration is kept. The relative entropy makes the value tend to the
    mean cost for ε → ∞ and to the transport cost for ε → 0; with −ε·H(P) it would be ε log(NM) less.

    Args:
        costs: C, shape (N, M).
        epsilon: Entropy, in the unit of the costs, greater than 0.
        tolerance: Error of the marginals at which the iteration ends.
        max_iterations: At the last ε. If they do not suffice, the value is a lower bound, and the error says how far
            the plan is from one.

    Returns:
        Value, plan and the error that is left.

    Raises:
        ValueError: If there is no cost, one is not finite, or ε is not positive.

    Example:
        >>> moved = entropic_transport(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.05)
        >>> moved.plan
        tensor([[5.0000e-01, 1.0306e-09],
                [1.0306e-09, 5.0000e-01]])

    References:
        Cuturi 2013; Feydy et al. 2019, equations 1 and 5.
    """
    if costs.ndim != 2 or not costs.numel() or not bool(costs.isfinite().all()):
        raise ValueError(f"`costs` must be finite numbers of shape (N, M); got shape {tuple(costs.shape)}")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"`epsilon` must be greater than 0; got {epsilon}")
    fixed = costs.detach()
    log_a, log_b = -math.log(fixed.shape[0]), -math.log(fixed.shape[1])
    f, g = fixed.new_zeros(fixed.shape[0]), fixed.new_zeros(fixed.shape[1])
    for step in _falling(float(fixed.max() - fixed.min()), epsilon):
        for _ in range(max_iterations if step == epsilon else 5):
            f = -step * torch.logsumexp((g - fixed) / step + log_b, 1)
            g = -step * torch.logsumexp((f[:, None] - fixed) / step + log_a, 0)
            plan = ((f[:, None] + g - fixed) / step + log_a + log_b).exp()
            error = float((plan.sum(1) - math.exp(log_a)).abs().sum())
            if error < tolerance:
                break
    value = f.mean() + g.mean()
    return Transport(value + (plan * (costs - fixed)).sum(), plan, error)


def _falling(start: float, end: float) -> list[float]:
    """Return ε from the spread of the costs down to its last value, halved each time."""
    steps = []
    while start > end:
        steps.append(start)
        start /= 2
    return [*steps, end]


@dataclass(frozen=True)
class SinkhornDivergence(SampleDivergence):
    r"""The Sinkhorn divergence :math:`W_\varepsilon(x,y) - \frac12 W_\varepsilon(x,x) - \frac12 W_\varepsilon(y,y)`.

    Transport with an entropy, debiased, so that it is 0 for the same samples and at least 0 up to the error of the
    iteration. ε → 0 is the transport cost of the samples, ε → ∞ half the energy distance (for ``distance``) or the
    squared distance of the means (for ``squared``). As an estimate of the divergence of two laws it is too large by an
    amount that falls like :math:`1/\sqrt n` for fixed ε, and like :math:`n^{-1/D}` for ε → 0.

    Args:
        epsilon: Entropy, as a share of the mean cost between the two sets, which counts as a number: no gradient goes
            through it.
        cost: ``squared`` for ‖x − y‖², whose transport cost is the square of the 2-Wasserstein distance, or
            ``distance`` for ‖x − y‖, whose is the 1-Wasserstein distance.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> SinkhornDivergence().between_samples(target=x, model=x + torch.tensor([0.0, 2.0]))
        tensor(4.)

    References:
        Genevay et al. 2018; Feydy et al. 2019.
    """

    epsilon: Annotated[float, Setting("Entropy, as a share of the mean cost.", gt=0)] = 0.05
    cost: Annotated[Literal["squared", "distance"], Setting("‖x − y‖² or ‖x − y‖.")] = "squared"

    declaration = Declaration(
        "sinkhorn_divergence",
        "optimal transport with an entropy, less that of each side to itself",
        "Genevay et al. 2018; Feydy et al. 2019",
        examples=(
            Example((*PROPERTIES, "symmetric_between_samples")),
            Example((*PROPERTIES, "symmetric_between_samples"), {"epsilon": 0.5, "cost": "distance"}),
        ),
    )

    def between_samples(self, *, target: Tensor, model: Tensor) -> Tensor:
        """Return the divergence; see `SampleDivergence.between_samples`."""
        check_samples(target, model)
        between = self._costs(target, model)
        epsilon = self.epsilon * float(between.detach().mean())
        if epsilon == 0:
            return between.sum()  # all samples are one vector
        own = [entropic_transport(self._costs(side, side), epsilon=epsilon).value for side in (target, model)]
        return entropic_transport(between, epsilon=epsilon).value - (own[0] + own[1]) / 2

    def _costs(self, x: Tensor, y: Tensor) -> Tensor:
        squared = squared_distances(x, y)
        if self.cost == "squared":
            return squared
        # The slope of the root is infinite at 0, where the distance takes 0 as its gradient.
        return torch.where(squared > 0, squared.where(squared > 0, 1.0).sqrt(), 0.0)


@dataclass(frozen=True)
class SlicedWasserstein(SampleDivergence):
    r"""The distance :math:`\left(E_\theta W_p^p(\theta^\top x, \theta^\top y)\right)^{1/p}` over random directions θ.

    In one dimension transport is sorting, so this costs n log n. A shift by m has the value ‖m‖/√D for p = 2. Sets of
    different sizes are compared by their quantiles. The mean over directions has no bias before the root is taken; the
    samples add some, of order :math:`1/\sqrt n`, whatever D is.

    Args:
        num_directions: Directions.
        power: Power p of the distance, at least 1.
        seed: Seed of the directions, the same for every call, so that calls can be compared.

    Example:
        >>> x = torch.zeros(3, 1)
        >>> SlicedWasserstein().between_samples(target=x, model=x + 2)
        tensor(2.)

    References:
        Rabin et al. 2012; Bonneel et al. 2015; Tran et al. 2021 (#7), which learns the directions.
    """

    num_directions: Annotated[int, Setting("Random directions.", ge=1)] = 256
    power: Annotated[float, Setting("Power of the distance.", ge=1)] = 2.0
    seed: Annotated[int, Setting("Seed of the directions.", ge=0)] = 0

    declaration = Declaration(
        "sliced_wasserstein",
        "Wasserstein distance of projections to a line, over random directions",
        "Rabin et al. 2012; Bonneel et al. 2015; Tran et al. 2021 (#7)",
        examples=(
            Example((*PROPERTIES, "symmetric_between_samples")),
            Example((*PROPERTIES, "symmetric_between_samples"), {"power": 1.0, "num_directions": 16}),
        ),
    )

    def between_samples(self, *, target: Tensor, model: Tensor) -> Tensor:
        """Return the distance; see `SampleDivergence.between_samples`."""
        check_samples(target, model)
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(target.shape[1], self.num_directions, generator=generator, dtype=torch.float64)
        directions = (directions / directions.norm(dim=0)).to(target)
        first, second = ((side @ directions).sort(0).values for side in (target, model))
        # Both quantile functions are constant between the levels i/M and j/N.
        levels = torch.cat([_levels(len(first)), _levels(len(second))]).unique()
        widths = levels.diff(prepend=levels.new_zeros(1))
        middles = levels - widths / 2
        gaps = (first[_index(middles, first)] - second[_index(middles, second)]).abs()
        mean = (gaps**self.power * widths.to(gaps)[:, None]).sum(0).mean()
        # The root's slope is infinite at 0, where both sets are the same: its gradient there is taken as 0.
        return torch.where(mean > 0, mean.where(mean > 0, 1.0) ** (1 / self.power), mean)


def _levels(size: int) -> Tensor:
    return torch.arange(1, size + 1, dtype=torch.float64) / size


def _index(levels: Tensor, values: Tensor) -> Tensor:
    return (levels * len(values)).long().clamp(max=len(values) - 1).to(values.device)
