"""The Cauchy–Schwarz divergence between categorical distributions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example
from sharpseq.divergences.categorical import PROPERTIES, Divergence
from sharpseq.divergences.kernels import gram_means
from sharpseq.divergences.renyi import _shares


@dataclass(frozen=True)
class CauchySchwarz(Divergence):
    r"""The divergence :math:`-2 \log \sum_v p_v q_v + \log \sum_v p_v^2 + \log \sum_v q_v^2`.

    Minus twice the logarithm of the cosine of the angle between the two vectors of probabilities: symmetric, +inf where
    they share nothing. Neither above nor below KL in general.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> CauchySchwarz().exact(target_logits=target, model_logits=model)
        tensor([0.2231])

    References:
        Jenssen et al. 2006; Yu et al. 2024, CS-IB (#23).
    """

    declaration = Declaration(
        "cauchy_schwarz",
        "−2 log Σ pq + log Σ p² + log Σ q²: the angle between the two",
        "Jenssen et al. 2006; Yu et al. 2024, CS-IB (#23)",
        examples=(
            Example(
                (
                    *PROPERTIES,
                    "symmetric",
                )
            ),
        ),
    )

    def rows(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return D of each row; see `Divergence.rows`."""
        own = torch.logsumexp(2 * log_p, -1) + torch.logsumexp(2 * log_q, -1)
        return own - 2 * torch.logsumexp(log_p + log_q, -1)

    def model_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log q: twice the shares of q² less those of pq."""
        return 2 * (_shares(2 * log_q) - _shares(log_p + log_q))

    def target_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log p."""
        return self.model_slopes(log_q, log_p)

    def between_samples(
        self, *, target: Tensor, model: Tensor, width: float | None = None, has_diagonals: bool = True
    ) -> Tensor:
        """Return the estimate between the densities of two sets of vectors, through a Gaussian kernel.

        It is the divergence of the two laws smoothed by a Gaussian of ``width``/√2 in each direction, so 0 only where
        those agree; smaller than that of the laws as a rule. The logarithms of means add a bias of order 1/n, and the
        diagonals one that grows as the width falls.

        Args:
            target: Samples of the target, shape (M, D).
            model: Samples of the model, shape (N, D).
            width: Width of the kernel; None is the median distance within both sets together.
            has_diagonals: Whether a sample is compared with itself. Without, the value can be negative.

        Returns:
            One number, differentiable in both; +inf where the two share nothing.

        Raises:
            ValueError: If the shapes do not fit, a set is empty, or has one sample and the diagonals are left out.
        """
        within_target, within_model, between = gram_means(target, model, width, has_diagonals=has_diagonals)
        return within_target.log() + within_model.log() - 2 * between.log()
