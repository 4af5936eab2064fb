"""The Kullback-Leibler divergence in both directions, their sum, and the forms between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.divergences.f_divergence import FDivergence, log_mixture, weighted_difference


@dataclass(frozen=True)
class KullbackLeibler(FDivergence):
    r"""KL(target ‖ model), :math:`f(u) = u \log u`: what maximum likelihood minimises; it covers the target.

    Infinite where the model rules out what the target does not.
    """

    declaration = Declaration(
        "kullback_leibler",
        "KL(target ‖ model), forward KL: covers everything that the target does",
        "Kullback and Leibler 1951",
    )
    slopes = (-math.inf, math.inf)
    limits = (0.0, math.inf)

    def f(self, u: Tensor) -> Tensor:
        """Return u log u."""
        return torch.xlogy(u, u)

    def derivative(self, u: Tensor) -> Tensor:
        """Return log u + 1."""
        return u.log() + 1

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u."""
        return 1 / u

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return (t - 1).exp()

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p (log p − log q)."""
        return weighted_difference(log_p.exp(), log_p, log_q)


@dataclass(frozen=True)
class ReverseKullbackLeibler(FDivergence):
    r"""KL(model ‖ target), :math:`f(u) = -\log u`: the model goes where the target is probable; it seeks a mode.

    Infinite where the target rules out what the model does not.
    """

    declaration = Declaration(
        "reverse_kullback_leibler",
        "KL(model ‖ target), reverse KL: seeks a mode of the target",
        "Kullback and Leibler 1951",
    )
    slopes = (-math.inf, 0.0)
    limits = (math.inf, 0.0)

    def f(self, u: Tensor) -> Tensor:
        """Return −log u."""
        return -u.log()

    def derivative(self, u: Tensor) -> Tensor:
        """Return −1/u."""
        return -1 / u

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u²."""
        return u**-2

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return -1 / t

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q (log q − log p)."""
        return weighted_difference(log_q.exp(), log_q, log_p)


@dataclass(frozen=True)
class Jeffreys(FDivergence):
    r"""Forward plus reverse KL, :math:`f(u) = (u - 1) \log u`; infinite where either is."""

    declaration = Declaration("jeffreys", "forward plus reverse KL", "Jeffreys 1946")
    slopes = (-math.inf, math.inf)
    limits = (math.inf, math.inf)

    def f(self, u: Tensor) -> Tensor:
        """Return (u − 1) log u."""
        return (u - 1) * u.log()

    def derivative(self, u: Tensor) -> Tensor:
        """Return log u + 1 − 1/u."""
        return u.log() + 1 - 1 / u

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/u + 1/u²."""
        return 1 / u + u**-2

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (p − q)(log p − log q)."""
        return weighted_difference(log_p.exp(), log_p, log_q) + weighted_difference(log_q.exp(), log_q, log_p)


@dataclass(frozen=True)
class SkewKullbackLeibler(FDivergence):
    r"""KL(target ‖ λ·target + (1 − λ)·model): forward KL that is never infinite.

    Args:
        share: λ, the target's share in the mixture, in (0, 1).

    References:
        Lee 1999; Ko et al. 2024, "DistiLLM".
    """

    share: Annotated[float, Setting("Share of the target in the mixture.", gt=0, lt=1)] = 0.1

    declaration = Declaration(
        "skew_kullback_leibler", "KL of the target from a mixture of both; bounded", "Lee 1999; Ko et al. 2024"
    )

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        return -math.inf, -math.log(self.share)

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        return 0.0, -math.log(self.share)

    def _mixture(self, u: Tensor) -> Tensor:
        return self.share * u + 1 - self.share

    def f(self, u: Tensor) -> Tensor:
        """Return u log(u / (λu + 1 − λ))."""
        return torch.xlogy(u, u / self._mixture(u))

    def derivative(self, u: Tensor) -> Tensor:
        """Return log(u/m) + (1 − λ)/m with m = λu + 1 − λ."""
        m = self._mixture(u)
        return (u / m).log() + (1 - self.share) / m

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return (1 − λ)² / (u m²)."""
        return (1 - self.share) ** 2 / (u * self._mixture(u) ** 2)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p (log p − log m)."""
        return weighted_difference(log_p.exp(), log_p, log_mixture(log_p, log_q, self.share))


@dataclass(frozen=True)
class SkewReverseKullbackLeibler(FDivergence):
    r"""KL(model ‖ λ·model + (1 − λ)·target): reverse KL that is never infinite.

    Args:
        share: λ, the model's share in the mixture, in (0, 1).

    References:
        Ko et al. 2024, "DistiLLM".
    """

    share: Annotated[float, Setting("Share of the model in the mixture.", gt=0, lt=1)] = 0.1

    declaration = Declaration(
        "skew_reverse_kullback_leibler", "KL of the model from a mixture of both; bounded", "Ko et al. 2024"
    )

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        return -(1 - self.share) / self.share, 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        return -math.log(self.share), 0.0

    def _mixture(self, u: Tensor) -> Tensor:
        return self.share + (1 - self.share) * u

    def f(self, u: Tensor) -> Tensor:
        """Return −log(λ + (1 − λ) u)."""
        return -self._mixture(u).log()

    def derivative(self, u: Tensor) -> Tensor:
        """Return −(1 − λ)/(λ + (1 − λ) u)."""
        return -(1 - self.share) / self._mixture(u)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)²."""
        return self.derivative(u) ** 2

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return -1 / t - self.share / (1 - self.share)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q (log q − log m)."""
        return weighted_difference(log_q.exp(), log_q, log_mixture(log_q, log_p, self.share))


@dataclass(frozen=True)
class JensenShannon(FDivergence):
    r"""The Jensen–Shannon divergence, :math:`w\,\mathrm{KL}(p\|m) + (1 - w)\,\mathrm{KL}(q\|m)`, m = wp + (1 − w)q.

    At most the entropy of (w, 1 − w): log 2 for w = ½.

    Args:
        weight: w of the target, in (0, 1). Divided by w it tends to forward KL for w → 0, divided by 1 − w to reverse
            KL for w → 1.

    References:
        Lin 1991; Agarwal et al. 2024 (as the loss of a student).
    """

    weight: Annotated[float, Setting("Weight of the target in the mixture.", gt=0, lt=1)] = 0.5

    declaration = Declaration(
        "jensen_shannon", "KL of both from their mixture; at most log 2 at weight ½", "Lin 1991; Agarwal et al. 2024"
    )

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        return -math.inf, -self.weight * math.log(self.weight)

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        return -(1 - self.weight) * math.log1p(-self.weight), -self.weight * math.log(self.weight)

    def _mixture(self, u: Tensor) -> Tensor:
        return self.weight * u + 1 - self.weight

    def f(self, u: Tensor) -> Tensor:
        """Return w u log(u/m) − (1 − w) log m with m = wu + 1 − w."""
        m = self._mixture(u)
        return self.weight * torch.xlogy(u, u / m) - (1 - self.weight) * m.log()

    def derivative(self, u: Tensor) -> Tensor:
        """Return w log(u/m)."""
        return self.weight * (u / self._mixture(u)).log()

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return w(1 − w)/(u m)."""
        return self.weight * (1 - self.weight) / (u * self._mixture(u))

    def _inverse_inside(self, t: Tensor) -> Tensor:
        ratio = (t / self.weight).exp()
        return ratio * (1 - self.weight) / (1 - self.weight * ratio)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return w p (log p − log m) + (1 − w) q (log q − log m)."""
        log_m = log_mixture(log_p, log_q, self.weight)
        first = weighted_difference(log_p.exp(), log_p, log_m)
        return self.weight * first + (1 - self.weight) * weighted_difference(log_q.exp(), log_q, log_m)


@dataclass(frozen=True)
class SoftenedReverseKullbackLeibler(FDivergence):
    r"""Twice KL(½ target + ½ model ‖ target), :math:`f(u) = (1 + u) \log \frac{1 + u}{2u}`.

    Like reverse KL, but a token that the target finds probable already pulls no longer: its reward is
    :math:`\log \sigma(\log p - \log q)`, bounded above. Infinite where the target rules out what the model does not.

    References:
        Nowozin et al. 2016; the reward of few-step distillation with a discriminator (#10).
    """

    declaration = Declaration(
        "softened_reverse_kullback_leibler", "2 KL of the mean of both from the target (#10)", "Nowozin et al. 2016"
    )
    slopes = (-math.inf, -math.log(2.0))
    limits = (math.inf, -math.log(2.0))

    def f(self, u: Tensor) -> Tensor:
        """Return (1 + u) log((1 + u)/(2u))."""
        return (1 + u) * ((1 + u) / (2 * u)).log()

    def derivative(self, u: Tensor) -> Tensor:
        """Return log((1 + u)/(2u)) − 1/u."""
        return ((1 + u) / (2 * u)).log() - 1 / u

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 1/(u²(1 + u))."""
        return 1 / (u**2 * (1 + u))

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return 2 m (log m − log p) with m the mean of both."""
        log_m = log_mixture(log_p, log_q, 0.5)
        return 2 * weighted_difference(log_m.exp(), log_m, log_p)
