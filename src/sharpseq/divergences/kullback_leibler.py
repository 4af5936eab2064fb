"""The Kullback–Leibler divergence, its reverse, and their sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sharpseq.declarations import Declaration, Example
from sharpseq.divergences.f_divergence import F_PROPERTIES, FDivergence


@dataclass(frozen=True)
class KL(FDivergence):
    r"""The divergence :math:`\mathrm{KL}(\text{target} \| \text{model}) = \sum_v p_v \log(p_v/q_v)`.

    The forward KL: the model must cover whatever the target allows. Its gradient is :math:`q - p`, that of
    cross-entropy. +inf where the model gives 0 to what the target allows.

    Example:
        >>> import torch
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> KL().exact(target_logits=target, model_logits=model)
        tensor([0.1308])
    """

    declaration = Declaration(
        "kl",
        "KL(target ‖ model) = Σ p log(p/q): covers",
        "Kullback and Leibler 1951; Hinton et al. 2015",
        examples=(Example((*F_PROPERTIES, "convex_in_logits", "inverse_exists")),),
    )

    at_zero = 1.0
    slope_at_infinity = math.inf

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p log(p/q) − p + q."""
        return log_p.exp() * (log_p - log_q - 1) + log_q.exp()

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p log(p/q)."""
        return log_p.exp() * (log_p - log_q)

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q − p."""
        return log_q.exp() - log_p.exp()

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u."""
        return 1 / u

    def _inverse(self, t: Tensor) -> Tensor:
        return t.exp()


@dataclass(frozen=True)
class ReverseKL(FDivergence):
    r"""The divergence :math:`\mathrm{KL}(\text{model} \| \text{target}) = \sum_v q_v \log(q_v/p_v)`.

    The model may leave out what the target allows, and must not write what the target excludes: it seeks a mode. +inf
    where the target gives 0 to what the model allows.

    Example:
        >>> import torch
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> ReverseKL().exact(target_logits=target, model_logits=model)
        tensor([0.1438])
    """

    declaration = Declaration(
        "reverse_kl",
        "KL(model ‖ target) = Σ q log(q/p): seeks a mode",
        "Kullback and Leibler 1951; Gu et al. 2024, MiniLLM (#103)",
        examples=(Example((*F_PROPERTIES, "inverse_exists")),),
    )

    at_zero = math.inf
    slope_at_infinity = 1.0

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q log(q/p) − q + p."""
        return log_q.exp() * (log_q - log_p - 1) + log_p.exp()

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p − q."""
        return log_p.exp() - log_q.exp()

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q log(q/p)."""
        return log_q.exp() * (log_q - log_p)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u²."""
        return u**-2

    def _inverse(self, t: Tensor) -> Tensor:
        return 1 / (1 - t)


@dataclass(frozen=True)
class Jeffreys(FDivergence):
    r"""The sum of both KL divergences, :math:`\sum_v (p_v - q_v)\log(p_v/q_v)`; some authors halve it.

    +inf where one side gives 0 to what the other allows.

    Example:
        >>> import torch
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> Jeffreys().exact(target_logits=target, model_logits=model)
        tensor([0.2747])
    """

    declaration = Declaration(
        "jeffreys",
        "KL(target ‖ model) + KL(model ‖ target)",
        "Jeffreys 1946",
        examples=(Example((*F_PROPERTIES, "symmetric", "inverse_exists")),),
    )

    at_zero = math.inf
    slope_at_infinity = math.inf

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (p − q) log(p/q)."""
        return (log_p.exp() - log_q.exp()) * (log_p - log_q)

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p log(p/q) + p − q."""
        p = log_p.exp()
        return p * (log_p - log_q) + p - log_q.exp()

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q log(q/p) + q − p."""
        q = log_q.exp()
        return q * (log_q - log_p) + q - log_p.exp()

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u + 1/u²."""
        return 1 / u + u**-2
