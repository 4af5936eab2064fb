"""Divergences between two sets of vectors, of which nothing but the vectors is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Method

PROPERTIES = (
    "zero_between_the_same_samples",
    "order_and_place_do_not_matter",
    "grows_with_a_shift",
    "has_a_gradient_everywhere",
    "keeps_precision",
)
"""What every divergence between sets of vectors keeps (``tests/contracts``)."""


@dataclass(frozen=True)
class SampleDivergence(Method, ABC):
    """A number for two sets of vectors, such as the embeddings of two sets of texts: 0 where both have one law."""

    @abstractmethod
    def between_samples(self, *, target: Tensor, model: Tensor) -> Tensor:
        """Return the estimate from samples.

        Args:
            target: Samples of the target, shape (M, D).
            model: Samples of the model, shape (N, D).

        Returns:
            One number, differentiable in both.

        Raises:
            ValueError: If the shapes do not fit, or a set is empty.
        """


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return ‖x_i − y_j‖², shape (N, M), at least 0 and with a finite gradient where two vectors are the same."""
    centre = y.mean(0).detach()
    x, y = x - centre, y - centre
    return ((x**2).sum(-1)[:, None] + (y**2).sum(-1) - 2 * x @ y.T).clamp(min=0)


def check_samples(target: Tensor, model: Tensor) -> None:
    """Check two sets of vectors.

    Raises:
        ValueError: If they are not (M, D) and (N, D), or one is empty.
    """
    if target.ndim != 2 or model.ndim != 2 or target.shape[1] != model.shape[1]:
        raise ValueError(
            f"samples must have the shapes (M, D) and (N, D); got {tuple(target.shape)} for the target and "
            f"{tuple(model.shape)} for the model"
        )
    if not len(target) or not len(model):
        raise ValueError("samples of the target or of the model are empty")


def median_distance(target: Tensor, model: Tensor) -> Tensor:
    """Return the median distance within the pooled samples, without gradient, the usual width of a kernel.

    Raises:
        ValueError: If all samples are the same vector.
    """
    pooled = torch.cat([target, model]).detach()
    distances = torch.pdist(pooled)
    width = distances.median() if len(distances) else distances.new_zeros(())
    if not float(width) > 0:
        raise ValueError("more than half of the samples are the same vector, so no width can be read off; give one")
    return width
