"""Normal distributions of a latent variable, a mean and a standard deviation for each number in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DiagonalGaussian:
    r"""Independent normal distributions :math:`N(\mu, \sigma^2)`, one for each entry of a tensor.

    Args:
        mean: :math:`\mu`, shape (B, T, D) for a latent of D numbers at each of T positions.
        log_std: :math:`\log \sigma`, same shape.

    Example:
        >>> standard = DiagonalGaussian(torch.zeros(1), torch.zeros(1))
        >>> standard.log_prob(torch.zeros(1)).exp()
        tensor([0.3989])
        >>> DiagonalGaussian(torch.ones(1), torch.zeros(1)).kl_divergence(standard)
        tensor([0.5000])
    """

    mean: Tensor
    log_std: Tensor

    def sample(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one sample, differentiable in mean and standard deviation, shape of ``mean``."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of every entry in nats, shape of ``value``."""
        standardized = (value - self.mean) * (-self.log_std).exp()
        return -0.5 * standardized.square() - self.log_std - 0.5 * math.log(2 * math.pi)

    def kl_divergence(self, other: DiagonalGaussian) -> Tensor:
        r"""Return :math:`\mathrm{KL}(\text{self}\,\|\,\text{other})` of every entry in nats, shape of ``mean``.

        References:
            Kingma and Welling 2014, appendix B, with a learned second distribution.
        """
        log_ratio = self.log_std - other.log_std
        distance = (self.mean - other.mean) * (-other.log_std).exp()
        return 0.5 * ((2 * log_ratio).exp() + distance.square() - 1) - log_ratio

    def repeat_interleave(self, n: int) -> DiagonalGaussian:
        """Return every row ``n`` times in a row, shape (B·n, …)."""
        return DiagonalGaussian(self.mean.repeat_interleave(n, dim=0), self.log_std.repeat_interleave(n, dim=0))
