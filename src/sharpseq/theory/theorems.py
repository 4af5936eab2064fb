r"""The theorems of the paper as measurements: by how much two optima contradict a theorem, 0 if they do not.

Every function takes probabilities of outcomes in decreasing order of p_data, as the paper numbers them. :math:`p_g` is
the optimum of a concave g, and :math:`p_{fg}` that of f∘g with an increasing convex f.

References:
    Shao et al. 2023, "Beyond MLE", section 3 and appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.objectives.transforms import Transform
from sharpseq.theory.optimum import optimal_distribution

Violation = Callable[[Tensor, Tensor], float]
"""Takes p_g and p_fg, each of shape (n,)."""


def order_violation(probs: Tensor) -> float:
    r"""Return the largest :math:`p(x_j) - p(x_i)` with i < j: theorem 1 says that it is never positive.

    Example:
        >>> order_violation(torch.tensor([0.5, 0.2, 0.3]))
        0.1
    """
    return _rounded(float((probs - probs.cummin(dim=0).values).max()))


def one_hot_violation(probs: Tensor) -> float:
    r"""Return :math:`1 - p(x_1)`: theorem 2 says that it is 0 if F is convex.

    Example:
        >>> one_hot_violation(torch.tensor([0.75, 0.25]))
        0.25
    """
    return _rounded(1 - float(probs[0]))


def crossing_violation(p_g: Tensor, p_fg: Tensor) -> float:
    r"""Return the largest loss before a gain: theorem 3 says that gains come first, losses after them.

    It is the largest :math:`\min(p_g(x_i) - p_{fg}(x_i),\; p_{fg}(x_j) - p_g(x_j))` with i < j.

    Example:
        >>> crossing_violation(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.5, 0.1]))
        0.1
    """
    gains = p_fg - p_g
    lost_so_far = (-gains).cummax(dim=0).values
    return _rounded(float(torch.minimum(lost_so_far[:-1], gains[1:]).max().clamp(min=0.0)))


def entropy_violation(p_g: Tensor, p_fg: Tensor) -> float:
    """Return by how many nats the entropy rises from p_g to p_fg: corollary 1 says that it does not.

    Example:
        >>> entropy_violation(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        0.693147
    """
    rise = -torch.special.xlogy(p_fg, p_fg).sum() + torch.special.xlogy(p_g, p_g).sum()
    return _rounded(float(rise.clamp(min=0.0)))


def partial_sum_violation(p_g: Tensor, p_fg: Tensor) -> float:
    r"""Return by how much a partial sum :math:`\sum_{i \le n}` falls from p_g to p_fg: corollary 2 says that none does.

    Example:
        >>> partial_sum_violation(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.5, 0.1]))
        0.1
    """
    return _rounded(float((p_g.cumsum(dim=0) - p_fg.cumsum(dim=0)).max().clamp(min=0.0)))


def growth_violation(p_g: Tensor, p_fg: Tensor) -> float:
    r"""Return by how much a gain exceeds an earlier one: theorem 4 says that gains come in decreasing order.

    It is the largest :math:`d_j - d_i` with :math:`d = p_{fg} - p_g`, i < j < m, and m the first index with a loss.

    Example:
        >>> growth_violation(torch.tensor([0.4, 0.3, 0.3]), torch.tensor([0.5, 0.5, 0.0]))
        0.1
    """
    gains = p_fg - p_g
    losses = (gains < 0).nonzero().flatten()
    gains = gains[: int(losses[0])] if len(losses) else gains
    return _rounded(float((gains - gains.cummin(dim=0).values).max())) if len(gains) else 0.0


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Data whose two optima contradict a theorem.

    Args:
        p_data: Probabilities of the data, in decreasing order, shape (n,).
        p_g: Optimum of g, shape (n,).
        p_fg: Optimum of f∘g, shape (n,).
        violation: By how much, according to the measure.
    """

    p_data: Tensor
    p_g: Tensor
    p_fg: Tensor
    violation: float


def search_counterexample(
    g: Transform,
    fg: Transform,
    *,
    violation: Violation,
    num_outcomes: int = 3,
    num_trials: int = 200,
    seed: int = 0,
) -> Counterexample | None:
    """Return the worst violation among random data sets, or None if none violates the theorem by more than 1e-6.

    Data are drawn uniformly from the simplex and sorted; with the same seed they are the same for every transform. All
    lengths are 1.

    Args:
        g: The transform of the first optimum.
        fg: The transform of the second.
        violation: The theorem, as one of the measures of this module.
        num_outcomes: Number of outcomes of each data set.
        num_trials: Number of data sets.
        seed: Seed of the data.

    Example:
        >>> from sharpseq.objectives import Exponential, Identity
        >>> search_counterexample(Identity(), Exponential(0.5), violation=growth_violation, num_trials=20) is None
        True
    """
    generator = torch.Generator().manual_seed(seed)
    worst: Counterexample | None = None
    for _ in range(num_trials):
        drawn = torch.rand(num_outcomes, generator=generator, dtype=torch.float64).log()
        p_data = (drawn / drawn.sum()).sort(descending=True).values
        p_g, p_fg = (optimal_distribution(p_data, transform).probs for transform in (g, fg))
        found = violation(p_g, p_fg)
        if found > max(1e-6, worst.violation if worst else 0.0):
            worst = Counterexample(p_data, p_g, p_fg, found)
    return worst


def _rounded(violation: float) -> float:
    """Return a violation without rounding errors."""
    return round(violation, 6)
