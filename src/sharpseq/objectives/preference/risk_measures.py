r"""Risk measures of :math:`X = \log \pi_{ref}(z) - \log \pi(z)` over the tokens z that the reference would write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant, method_table
from sharpseq.divergences import KL


@dataclass(frozen=True)
class RiskMeasure(Method, ABC):
    """Base of a number for each position: how far the policy has drifted from the reference there."""

    @abstractmethod
    def __call__(self, log_reference: Tensor, log_policy: Tensor) -> Tensor:
        """Return the risk of each row in nats, shape (N,).

        Args:
            log_reference: Log-probabilities of the reference, without gradient, shape (N, V).
            log_policy: Those of the policy, shape (N, V).
        """


@dataclass(frozen=True)
class MeanRisk(RiskMeasure):
    """The mean of X, KL(reference ‖ policy), as in TDPO."""

    declaration = Declaration("mean", "the mean: KL(reference ‖ policy), as in TDPO", "Zeng et al. 2024")

    def __call__(self, log_reference: Tensor, log_policy: Tensor) -> Tensor:
        """Return KL(reference ‖ policy) of each row, shape (N,)."""
        return KL().exact(target_logits=log_reference, model_logits=log_policy)


@dataclass(frozen=True)
class Cvar(RiskMeasure):
    r"""Conditional value at risk: the mean of X over one tail of the reference's mass, exact for discrete tokens.

    The upper tail has the tokens that the policy gave up most. Which tail the paper's μ leaves out is open in the
    sources; that both are offered, and that the upper one is the default, is ours. At mass 1 both are the mean.

    Args:
        mass: Share of the reference's mass that counts, in (0, 1].
        tail: ``upper`` or ``lower``.

    Example:
        >>> reference, policy = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
        >>> Cvar(0.5)(reference, policy), Cvar(0.5, "lower")(reference, policy)
        (tensor([0.6931]), tensor([-0.4055]))

    References:
        Rockafellar and Uryasev 2000; Zhang et al. 2025 (#51), with μ of 0.97 and 0.99.
    """

    mass: Annotated[Number, Setting("Share of the reference's mass that counts; 1 is the mean.", gt=0, le=1)] = 0.97
    tail: Annotated[
        Literal["upper", "lower"], Setting("Whether the tokens count that the policy gave up most, or least.")
    ] = "upper"

    declaration = Declaration("cvar", "the mean over a tail of the reference's mass", "Rockafellar and Uryasev 2000")

    def __call__(self, log_reference: Tensor, log_policy: Tensor) -> Tensor:
        """Return the mean of X over the tail of each row, shape (N,)."""
        mass, values = constant(self.mass), log_ratios(log_reference, log_policy)
        ordered, order = values.sort(dim=-1, descending=self.tail == "upper")
        shares = log_reference.detach().exp().gather(-1, order)
        before = shares.cumsum(-1) - shares
        weights = torch.minimum(shares, (mass - before).clamp(min=0)) / mass
        return (weights * ordered).sum(-1)


@dataclass(frozen=True)
class EntropicRisk(RiskMeasure):
    r"""Entropic risk :math:`\frac1\rho \log \mathbb E_{\pi_{ref}} e^{\rho X}`, Rényi's divergence of order 1 + ρ.

    ρ → 0 is the mean. Above 0 large X count more; below, less: the paper's :math:`\mathbb E e^{-\mu X}` is ρ = −μ.

    Args:
        rho: ρ, any number.

    References:
        Föllmer and Schied 2002; Zhang et al. 2025 (#51), with μ = 5.
    """

    rho: Annotated[Number, Setting("Above 0 the tokens count more that the policy gave up; 0 is the mean.")] = 1.0

    declaration = Declaration(
        "entropic", "the logarithm of an exponential mean: Rényi's divergence of order 1 + ρ", "Föllmer and Schied 2002"
    )

    def __call__(self, log_reference: Tensor, log_policy: Tensor) -> Tensor:
        """Return the entropic risk of each row, shape (N,)."""
        rho = constant(self.rho)
        if rho == 0:
            return MeanRisk()(log_reference, log_policy)
        return torch.logsumexp(log_reference + rho * log_ratios(log_reference, log_policy), -1) / rho


RISK_MEASURES: Mapping[str, type[Method]] = method_table(MeanRisk, Cvar, EntropicRisk)
"""Risk measures by name."""


def log_ratios(log_reference: Tensor, log_policy: Tensor) -> Tensor:
    """Return X of each token, 0 where the reference gives it no mass, shape (N, V)."""
    possible = log_reference > -torch.inf
    return torch.where(possible, log_reference, 0.0) - torch.where(possible, log_policy, 0.0)
