"""The Cauchy–Schwarz divergence between categorical distributions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example
from sharpseq.divergences.categorical import Divergence
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
        examples=(Example(("symmetric",)),),
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
