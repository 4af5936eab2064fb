"""Divergences between sets of vectors through a Gaussian kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Setting
from sharpseq.divergences.between_samples import (
    PROPERTIES,
    SampleDivergence,
    check_samples,
    median_distance,
    squared_distances,
)


@dataclass(frozen=True)
class MaximumMeanDiscrepancy(SampleDivergence):
    r"""The squared distance of mean embeddings, :math:`E\,k(x,x') + E\,k(y,y') - 2\,E\,k(x,y)`.

    The kernel is :math:`k(x,y) = e^{-\|x-y\|^2/2\sigma^2}`. With the diagonals the value is at least 0, exactly 0 for
    the same samples, and too large by about :math:`\frac1M + \frac1N` times :math:`1 - E\,k`; without them it has no
    bias and can be negative. The variance is finite whatever the laws are.

    Args:
        width: Width σ of the kernel; None is the median distance within both sets together.
        has_diagonals: Whether a sample is compared with itself.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> MaximumMeanDiscrepancy(width=1.0).between_samples(target=x, model=x + 1)
        tensor(0.4323)

    References:
        Gretton et al. 2012, equations 3 and 5.
    """

    width: Annotated[float | None, Setting("Width of the kernel; none is the median distance.", gt=0)] = None
    has_diagonals: Annotated[bool, Setting("Whether a sample is compared with itself: never negative, but biased.")] = (
        True
    )

    declaration = Declaration(
        "maximum_mean_discrepancy",
        "squared distance of mean embeddings with a Gaussian kernel",
        "Gretton et al. 2012",
        examples=(Example((*PROPERTIES, "symmetric_between_samples")),),
    )

    def between_samples(self, *, target: Tensor, model: Tensor) -> Tensor:
        """Return the squared discrepancy; see `SampleDivergence.between_samples`.

        Raises:
            ValueError: If the shapes do not fit, a set is empty, or has one sample and the diagonals are left out.
        """
        within_target, within_model, between = gram_means(target, model, self.width, has_diagonals=self.has_diagonals)
        return within_target + within_model - 2 * between


def gram_means(
    target: Tensor, model: Tensor, width: float | None, *, has_diagonals: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of the kernel within the target, within the model, and between the two.

    Raises:
        ValueError: If the shapes do not fit, a set is empty, or has one sample and the diagonals are left out.
    """
    check_samples(target, model)
    if not has_diagonals and min(len(target), len(model)) < 2:
        raise ValueError("without the diagonals each set needs two samples at least")
    sigma = median_distance(target, model) if width is None else width

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(squared_distances(x, y) / (-2 * sigma**2))

    def within(x: Tensor) -> Tensor:
        gram = kernel(x, x)
        if has_diagonals:
            return gram.mean()
        return (gram.sum() - gram.diagonal().sum()) / (len(x) * (len(x) - 1))

    return within(target), within(model), kernel(target, model).mean()
