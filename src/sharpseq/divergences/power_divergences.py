"""Divergences whose generator is a power: α, Tsallis, χ², Hellinger, Le Cam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.divergences.f_divergence import FDivergence, log_mixture
from sharpseq.divergences.kullback_leibler import KullbackLeibler, ReverseKullbackLeibler

_NEAR_A_POLE = 1e-4


@dataclass(frozen=True)
class Alpha(FDivergence):
    r"""Amari's α-divergence in the form :math:`\frac{\sum_v p_v^\alpha q_v^{1-\alpha} - 1}{\alpha(\alpha - 1)}`.

    α = 1 is forward KL, α = 0 reverse KL (the limits, used within 1e-4), α = ½ four times squared Hellinger,
    α = 2 half of Pearson's χ². Larger α covers, smaller seeks.

    Args:
        alpha: α, any number. For α ≥ 1 the divergence is infinite where the model rules out what the target does not;
            for α ≤ 0 the other way round; between them never. With |α| large it overflows at logits of hundreds, and
            is then infinite.

    References:
        Amari 1985; Wang et al. 2021 (AlphaNet) in this form.
    """

    alpha: Annotated[float, Setting("Order; 1 is forward KL, 0 reverse KL.")] = 0.5

    declaration = Declaration("alpha", "Amari's α-divergence, from reverse KL (0) to forward KL (1)", "Amari 1985")

    @property
    def _pole(self) -> FDivergence | None:
        """The divergence at a pole of the formula."""
        if abs(self.alpha - 1) < _NEAR_A_POLE:
            return KullbackLeibler()
        return ReverseKullbackLeibler() if abs(self.alpha) < _NEAR_A_POLE else None

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        a = self.alpha
        if self._pole is not None:
            # With f'(1) = 0, where those of the two KL divergences have f'(1) = 1 and −1.
            return (-math.inf, math.inf) if a > 0.5 else (-math.inf, 1.0)
        return (-math.inf, 1 / (1 - a)) if a < 1 else (-1 / (a - 1), math.inf)

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        a = self.alpha
        if self._pole is not None:
            return (1.0, math.inf) if a > 0.5 else (math.inf, 1.0)
        return (1 / a if a > 0 else math.inf), (1 / (1 - a) if a < 1 else math.inf)

    def f(self, u: Tensor) -> Tensor:
        """Return (u^α − αu − 1 + α)/(α(α − 1))."""
        a = self.alpha
        if self._pole is not None:
            return torch.xlogy(u, u) - u + 1 if a > 0.5 else u - 1 - u.log()
        return (u**a - a * u - 1 + a) / (a * (a - 1))

    def derivative(self, u: Tensor) -> Tensor:
        """Return (u^(α − 1) − 1)/(α − 1)."""
        a = self.alpha
        if self._pole is not None:
            return u.log() if a > 0.5 else 1 - 1 / u
        return (u ** (a - 1) - 1) / (a - 1)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return u^(α − 2)."""
        return u ** (self.alpha - 2)

    def _inverse_inside(self, t: Tensor) -> Tensor:
        a = self.alpha
        if self._pole is not None:
            return t.exp() if a > 0.5 else 1 / (1 - t)
        return (1 + (a - 1) * t) ** (1 / (a - 1))

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (p^α q^(1 − α) − αp − (1 − α)q)/(α(α − 1))."""
        a = self.alpha
        if self._pole is not None:
            return self._pole.terms(log_p, log_q)
        return (_power(log_p, log_q, a) - a * log_p.exp() - (1 - a) * log_q.exp()) / (a * (a - 1))


@dataclass(frozen=True)
class Tsallis(FDivergence):
    r"""Tsallis' relative entropy, :math:`\frac{\sum_v p_v^s q_v^{1-s} - 1}{s - 1}`.

    It is the order s times `Alpha` of the same order, KL at s = 1.

    Args:
        order: s, greater than 0.

    References:
        Tsallis 1998, "Generalized entropy-based criterion for consistent testing".
    """

    order: Annotated[float, Setting("Order; 1 is forward KL.", gt=0)] = 0.5

    declaration = Declaration("tsallis", "KL with the q-logarithm in place of the logarithm", "Tsallis 1998")

    @property
    def _alpha(self) -> Alpha:
        return Alpha(self.order)

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        low, high = self._alpha.slopes
        return self.order * low, self.order * high

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        low, high = self._alpha.limits
        return self.order * low, self.order * high

    def f(self, u: Tensor) -> Tensor:
        """Return s times that of `Alpha`."""
        return self.order * self._alpha.f(u)

    def derivative(self, u: Tensor) -> Tensor:
        """Return s times that of `Alpha`."""
        return self.order * self._alpha.derivative(u)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return s times that of `Alpha`."""
        return self.order * self._alpha.second_derivative(u)

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return self._alpha._inverse_inside(t / self.order)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return s times those of `Alpha`."""
        return self.order * self._alpha.terms(log_p, log_q)


@dataclass(frozen=True)
class PearsonChiSquare(FDivergence):
    r"""Pearson's :math:`\chi^2`, :math:`\sum_v (p_v - q_v)^2 / q_v`: large where the model is too small."""

    declaration = Declaration("pearson_chi_square", "Σ (target − model)² / model", "Pearson 1900")
    slopes = (-2.0, math.inf)
    limits = (1.0, math.inf)

    def f(self, u: Tensor) -> Tensor:
        """Return (u − 1)²."""
        return (u - 1) ** 2

    def derivative(self, u: Tensor) -> Tensor:
        """Return 2(u − 1)."""
        return 2 * (u - 1)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 2."""
        return torch.full_like(u, 2.0)

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return 1 + t / 2

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p²/q − 2p + q."""
        return _power(log_p, log_q, 2.0) - 2 * log_p.exp() + log_q.exp()


@dataclass(frozen=True)
class NeymanChiSquare(FDivergence):
    r"""Neyman's :math:`\chi^2`, :math:`\sum_v (p_v - q_v)^2 / p_v`: large where the model is too large."""

    declaration = Declaration("neyman_chi_square", "Σ (target − model)² / target", "Neyman 1949")
    slopes = (-math.inf, 1.0)
    limits = (math.inf, 1.0)

    def f(self, u: Tensor) -> Tensor:
        """Return (u − 1)²/u."""
        return (u - 1) ** 2 / u

    def derivative(self, u: Tensor) -> Tensor:
        """Return 1 − 1/u²."""
        return 1 - u**-2

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 2/u³."""
        return 2 * u**-3

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return (1 - t) ** -0.5

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q²/p − 2q + p."""
        return _power(log_q, log_p, 2.0) - 2 * log_q.exp() + log_p.exp()


@dataclass(frozen=True)
class ChiSquareMixture(FDivergence):
    r"""Pearson's :math:`\chi^2` of the target from a mixture, :math:`\sum_v (p_v - m_v)^2 / m_v`; bounded.

    Args:
        share: w of the target in m = wp + (1 − w)q, in (0, 1).

    References:
        Al-Hafez et al. 2023 (LS-IQ); Cundy and Ermon 2024 (SequenceMatch, #50).
    """

    share: Annotated[float, Setting("Share of the target in the mixture.", gt=0, lt=1)] = 0.5

    declaration = Declaration(
        "chi_square_mixture", "χ² of the target from a mixture of both; bounded (#50)", "Cundy and Ermon 2024"
    )

    @property
    def slopes(self) -> tuple[float, float]:
        """Limits of f'."""
        w = self.share
        return ((1 - w) ** 2 - 1) / w, (1 - w) ** 2 / w

    @property
    def limits(self) -> tuple[float, float]:
        """f(0) and f'(∞)."""
        return 1 - self.share, (1 - self.share) ** 2 / self.share

    def f(self, u: Tensor) -> Tensor:
        """Return (1 − w)²(u − 1)²/m with m = wu + 1 − w."""
        return (1 - self.share) ** 2 * (u - 1) ** 2 / (self.share * u + 1 - self.share)

    def derivative(self, u: Tensor) -> Tensor:
        """Return ((1 − w)²/w)(1 − 1/m²)."""
        w = self.share
        return (1 - w) ** 2 / w * (1 - (w * u + 1 - w) ** -2)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 2(1 − w)²/m³."""
        w = self.share
        return 2 * (1 - w) ** 2 * (w * u + 1 - w) ** -3

    def _inverse_inside(self, t: Tensor) -> Tensor:
        w = self.share
        return ((1 - w * t / (1 - w) ** 2) ** -0.5 - 1 + w) / w

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − w)²(p − q)²/m."""
        return (1 - self.share) ** 2 * _square_over(log_p, log_q, log_mixture(log_p, log_q, self.share))


@dataclass(frozen=True)
class SquaredHellinger(FDivergence):
    r"""Squared Hellinger distance, :math:`\frac12 \sum_v (\sqrt{p_v} - \sqrt{q_v})^2`, in [0, 1]."""

    declaration = Declaration("squared_hellinger", "½ Σ (√target − √model)², at most 1", "Hellinger 1909")
    slopes = (-math.inf, 0.5)
    limits = (0.5, 0.5)

    def f(self, u: Tensor) -> Tensor:
        """Return ½(√u − 1)²."""
        return (u.sqrt() - 1) ** 2 / 2

    def derivative(self, u: Tensor) -> Tensor:
        """Return ½(1 − 1/√u)."""
        return (1 - u**-0.5) / 2

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return ¼ u^(−3/2)."""
        return u**-1.5 / 4

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return (1 - 2 * t) ** -2

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½(√p − √q)²."""
        return ((log_p / 2).exp() - (log_q / 2).exp()) ** 2 / 2


@dataclass(frozen=True)
class LeCam(FDivergence):
    r"""Le Cam's divergence, :math:`\frac12 \sum_v (p_v - q_v)^2 / (p_v + q_v)`, in [0, 1]."""

    declaration = Declaration("le_cam", "½ Σ (target − model)² / (target + model), at most 1", "Le Cam 1986")
    slopes = (-1.5, 0.5)
    limits = (0.5, 0.5)

    def f(self, u: Tensor) -> Tensor:
        """Return ½(u − 1)²/(u + 1)."""
        return (u - 1) ** 2 / (u + 1) / 2

    def derivative(self, u: Tensor) -> Tensor:
        """Return ½ − 2/(u + 1)²."""
        return 0.5 - 2 * (u + 1) ** -2

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 4/(u + 1)³."""
        return 4 * (u + 1) ** -3

    def _inverse_inside(self, t: Tensor) -> Tensor:
        return 2 * (1 - 2 * t) ** -0.5 - 1

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ½(p − q)²/(p + q)."""
        return _square_over(log_p, log_q, log_mixture(log_p, log_q, 0.5)) / 4


def _power(log_a: Tensor, log_b: Tensor, order: float) -> Tensor:
    """Return a^order · b^(1 − order), with 0 · ∞ = 0 where both are 0."""
    is_empty = (log_a == -torch.inf) & (log_b == -torch.inf)
    # Of two factors, one may be 0 to a positive power while the other is infinite: 0 wins only if its order says so.
    first = torch.where(is_empty, 0.0, log_a)
    second = torch.where(is_empty, 0.0, log_b)
    exponent = order * first + (1 - order) * second
    return torch.where(is_empty, 0.0, exponent.exp())


def _square_over(log_p: Tensor, log_q: Tensor, log_m: Tensor) -> Tensor:
    """Return (p − q)²/m, for m at least as large as a share of either."""
    has_mass = log_m > -torch.inf
    safe = torch.where(has_mass, log_m, 0.0)
    ratio = (log_p - safe).exp() - (log_q - safe).exp()
    return torch.where(has_mass, safe.exp() * ratio**2, 0.0)
