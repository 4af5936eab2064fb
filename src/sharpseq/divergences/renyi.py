"""Rényi's divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Number, Setting, constant
from sharpseq.divergences.categorical import PROPERTIES, Divergence
from sharpseq.divergences.kullback_leibler import KL
from sharpseq.divergences.power import Alpha
from sharpseq.divergences.samples import Side, log_ratios

_NEAR_ONE = 0.05


@dataclass(frozen=True)
class Renyi(Divergence):
    r"""The divergence :math:`\frac{1}{\alpha - 1} \log \sum_v p_v^\alpha q_v^{1-\alpha}`, target p, model q.

    It rises with α: KL(target ‖ model) at α = 1, log(1 + Pearson's χ²) at α = 2, and for α → ∞ the logarithm of the
    largest ratio. A function of `Alpha`, no f-divergence itself. +inf where the two share nothing, and for α ≥ 1 where
    the model gives 0 to what the target allows.

    Args:
        alpha: Order, greater than 0.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> Renyi(2.0).exact(target_logits=target, model_logits=model)
        tensor([0.2231])

    References:
        Rényi 1961; van Erven and Harremoës 2014.
    """

    alpha: Annotated[Number, Setting("Order; 1 is KL(target ‖ model).", gt=0)] = 2.0

    declaration = Declaration(
        "renyi",
        "log Σ p^α q^(1−α) / (α − 1)",
        "Rényi 1961; van Erven and Harremoës 2014",
        examples=(
            Example((*PROPERTIES, "top_k_is_a_lower_bound"), {"alpha": 0.5}),
            Example((*PROPERTIES, "top_k_is_a_lower_bound"), {"alpha": 2.0}),
            Example((*PROPERTIES, "top_k_is_a_lower_bound", "equals_kl"), {"alpha": 1.0}),
        ),
    )

    def rows(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return D of each row; see `Divergence.rows`."""
        alpha = constant(self.alpha)
        if abs(alpha - 1) < _NEAR_ONE:
            # log Σ p^α q^(1−α) = log(1 + α(α − 1)·D_α), which loses no digits.
            inner = alpha * Alpha(alpha).rows(log_p, log_q)
            return inner if alpha == 1 else torch.log1p(inner * (alpha - 1)) / (alpha - 1)
        return torch.logsumexp(self._exponents(log_p, log_q), -1) / (alpha - 1)

    def model_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log q = −softmax(α log p + (1 − α) log q)."""
        return -_shares(self._exponents(log_p, log_q))

    def target_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log p."""
        alpha = constant(self.alpha)
        if abs(alpha - 1) < _NEAR_ONE:
            slopes = alpha * Alpha(alpha).target_slopes(log_p, log_q)
            if alpha == 1:
                return slopes
            return slopes / (1 + alpha * (alpha - 1) * Alpha(alpha).rows(log_p, log_q))[..., None]
        return _shares(self._exponents(log_p, log_q)) * (alpha / (alpha - 1))

    def from_samples(self, *, target_log_probs: Tensor, model_log_probs: Tensor, sampled_from: Side) -> Tensor:
        r"""Return the estimate from samples of one side, with the log-probabilities of both.

        :math:`\frac{1}{\alpha - 1} \log` of the mean of :math:`u^\alpha` over samples of the model, or of
        :math:`u^{\alpha - 1}` over samples of the target, u = target/model. The logarithm of a mean is too small on
        average: the estimate is too low for α > 1 and too high for α < 1, by about half the relative variance of that
        mean over n; at α = 1 it is that of `KL`. The variance is infinite unless :math:`E_q[u^{2\alpha}]`, or
        :math:`E_p[u^{2\alpha - 2}]`, is finite. The gradient goes to the model.

        Args:
            target_log_probs: Log-probabilities of the samples under the target, shape (..., n).
            model_log_probs: The same under the model.
            sampled_from: Which of the two the samples are from.

        Returns:
            Shape (...), in nats.

        Raises:
            ValueError: If shapes differ, or a sample has no mass where it is said to come from.
        """
        alpha = constant(self.alpha)
        log_u = log_ratios(target_log_probs, model_log_probs, sampled_from)
        if alpha == 1:
            return (
                KL()
                .from_samples(
                    target_log_probs=target_log_probs, model_log_probs=model_log_probs, sampled_from=sampled_from
                )
                .mean(-1)
            )
        exponents = (alpha if sampled_from == "model" else alpha - 1) * log_u
        value = (exponents.logsumexp(-1) - math.log(exponents.shape[-1])) / (alpha - 1)
        return value - (_shares(exponents) * (model_log_probs - model_log_probs.detach())).sum(-1)

    def _exponents(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        alpha = constant(self.alpha)
        exponents = alpha * log_p
        if alpha != 1:
            exponents = exponents + (1 - alpha) * log_q
        # What the target excludes counts for nothing, also where the model excludes it too.
        return exponents.masked_fill(log_p.isneginf(), -math.inf)


def _shares(exponents: Tensor) -> Tensor:
    """Return the softmax; zeros where everything is 0, and where one entry is infinite."""
    return torch.softmax(exponents, -1).nan_to_num(0.0)
