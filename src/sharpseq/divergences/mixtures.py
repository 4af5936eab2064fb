"""Divergences to a mixture of target and model, finite whatever is 0: Jensen–Shannon, skew KL, χ² to a mixture."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Number, Setting, constant
from sharpseq.divergences.f_divergence import F_PROPERTIES, FDivergence
from sharpseq.divergences.power import PearsonChi2


def _log_mixture(log_p: Tensor, log_q: Tensor, weight: float) -> Tensor:
    """Return log(weight·p + (1 − weight)·q)."""
    if weight == 0:
        return log_q
    return torch.logaddexp(log_p + math.log(weight), log_q + math.log1p(-weight))


def _times_log(x: float) -> float:
    return x * math.log(x) if x > 0 else 0.0


@dataclass(frozen=True)
class JensenShannon(FDivergence):
    r"""The divergence :math:`w\,\mathrm{KL}(p \| m) + (1 - w)\,\mathrm{KL}(q \| m)`, mixture :math:`m = wp + (1-w)q`.

    p is the target, q the model. At w = ½ symmetric and at most log 2; always at most the entropy of (w, 1 − w), the
    value of distributions that share nothing. It goes to 0 with w: divided by w it goes to KL(target ‖ model), and
    divided by 1 − w for w → 1 to KL(model ‖ target).

    Args:
        weight: Weight w of the target, in (0, 1); the β of generalised knowledge distillation and of TRL.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> JensenShannon().exact(target_logits=target, model_logits=model)
        tensor([0.0338])

    References:
        Lin 1991; Agarwal et al. 2024, "On-policy distillation of language models", equation 1.
    """

    weight: Annotated[Number, Setting("Weight of the target in the mixture.", gt=0, lt=1)] = 0.5

    declaration = Declaration(
        "jensen_shannon",
        "w KL(p ‖ m) + (1 − w) KL(q ‖ m), m = w p + (1 − w) q: bounded, between both KL",
        "Lin 1991; Agarwal et al. 2024",
        examples=(
            Example((*F_PROPERTIES, "symmetric", "bounded_by_one", "inverse_exists")),
            Example((*F_PROPERTIES, "bounded_by_one", "inverse_exists"), {"weight": 0.1}),
            Example((*F_PROPERTIES, "bounded_by_one", "inverse_exists"), {"weight": 0.9}),
        ),
    )

    @property
    def at_zero(self) -> float:
        """Return f(0) = −(1 − w) log(1 − w)."""
        return -_times_log(1 - constant(self.weight))

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞) = −w log w."""
        return -_times_log(constant(self.weight))

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return w p log(p/m) + (1 − w) q log(q/m)."""
        w = constant(self.weight)
        log_m = _log_mixture(log_p, log_q, w)
        return torch.lerp(log_q.exp() * (log_q - log_m), log_p.exp() * (log_p - log_m), w)

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return w p log(p/m)."""
        w = constant(self.weight)
        return w * log_p.exp() * (log_p - _log_mixture(log_p, log_q, w))

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − w) q log(q/m)."""
        w = constant(self.weight)
        return (1 - w) * log_q.exp() * (log_q - _log_mixture(log_p, log_q, w))

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return w(1 − w)/(u(wu + 1 − w))."""
        w = constant(self.weight)
        return w * (1 - w) / (u * (w * u + 1 - w))

    def _inverse(self, t: Tensor) -> Tensor:
        w = constant(self.weight)
        log_ratio = t / w
        return (1 - w) * log_ratio.exp() / -torch.expm1(log_ratio + math.log(w))


@dataclass(frozen=True)
class SkewKL(FDivergence):
    r"""The divergence :math:`\mathrm{KL}(p \| \lambda p + (1 - \lambda) q)`, target p, model q; at most −log λ.

    KL(target ‖ model) at λ = 0. With λ > 0 it is finite where the model gives 0 to what the target allows.

    Args:
        skew: Share λ of the target that is mixed into the model, in [0, 1).

    Example:
        >>> target, model = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
        >>> SkewKL(0.1).exact(target_logits=target, model_logits=model)
        tensor([2.3026])

    References:
        Lee 1999; Ko et al. 2024, DistiLLM, equation 3.
    """

    skew: Annotated[Number, Setting("Share of the target mixed into the model; 0 is KL.", ge=0, lt=1)] = 0.1

    declaration = Declaration(
        "skew_kl",
        "KL(p ‖ λ p + (1 − λ) q): KL(target ‖ model) made finite",
        "Lee 1999; Ko et al. 2024, DistiLLM",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists"), {"skew": 0.1}),
            Example((*F_PROPERTIES, "inverse_exists"), {"skew": 0.7}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_kl"), {"skew": 0.0}),
        ),
    )

    @property
    def at_zero(self) -> float:
        """Return f(0) = 1 − λ."""
        return 1 - constant(self.skew)

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞) = −log λ − (1 − λ)."""
        skew = constant(self.skew)
        return -math.log(skew) - (1 - skew) if skew > 0 else math.inf

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p log(p/m) − (1 − λ)(p − q)."""
        skew = constant(self.skew)
        log_m = _log_mixture(log_p, log_q, skew)
        return log_p.exp() * (log_p - log_m - (1 - skew)) + (1 - skew) * log_q.exp()

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p (log(p/m) − (1 − λ)(1 − q/m))."""
        skew = constant(self.skew)
        log_m = _log_mixture(log_p, log_q, skew)
        return log_p.exp() * (log_p - log_m + (1 - skew) * torch.expm1(log_q - log_m))

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − λ) q (1 − p/m)."""
        skew = constant(self.skew)
        if skew == 0:
            return log_q.exp() - log_p.exp()
        log_m = _log_mixture(log_p, log_q, skew)
        return (skew - 1) * log_q.exp() * torch.expm1(log_p - log_m)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return (1 − λ)²/(u v²), v = λu + 1 − λ."""
        skew = constant(self.skew)
        return (1 - skew) ** 2 / (u * (skew * u + 1 - skew) ** 2)


@dataclass(frozen=True)
class SkewReverseKL(FDivergence):
    r"""The divergence :math:`\mathrm{KL}(q \| \lambda q + (1 - \lambda) p)`, target p, model q; at most −log λ.

    KL(model ‖ target) at λ = 0. With λ > 0 it is finite where the target gives 0 to what the model allows.

    Args:
        skew: Share λ of the model that is mixed into the target, in [0, 1).

    Example:
        >>> target, model = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> SkewReverseKL(0.1).exact(target_logits=target, model_logits=model)
        tensor([0.8304])

    References:
        Lee 1999; Ko et al. 2024, DistiLLM, equation 4.
    """

    skew: Annotated[Number, Setting("Share of the model mixed into the target; 0 is the reverse KL.", ge=0, lt=1)] = 0.1

    declaration = Declaration(
        "skew_reverse_kl",
        "KL(q ‖ λ q + (1 − λ) p): KL(model ‖ target) made finite",
        "Lee 1999; Ko et al. 2024, DistiLLM",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists"), {"skew": 0.1}),
            Example((*F_PROPERTIES, "inverse_exists"), {"skew": 0.7}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_reverse_kl"), {"skew": 0.0}),
        ),
    )

    @property
    def _exchanged(self) -> SkewKL:
        return SkewKL(self.skew)

    @property
    def at_zero(self) -> float:
        """Return f(0) = −log λ − (1 − λ)."""
        skew = constant(self.skew)
        return -math.log(skew) - (1 - skew) if skew > 0 else math.inf

    @property
    def slope_at_zero(self) -> float:
        """Return f'(0) = −(1 − λ)²/λ."""
        skew = constant(self.skew)
        return -((1 - skew) ** 2) / skew if skew > 0 else -math.inf

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞) = 1 − λ."""
        return 1 - constant(self.skew)

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q log(q/m) + (1 − λ)(p − q)."""
        return self._exchanged.terms(log_q, log_p)

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − λ) p (1 − q/m)."""
        return self._exchanged.q_slopes(log_q, log_p)

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q (log(q/m) − (1 − λ)(1 − p/m))."""
        return self._exchanged.p_slopes(log_q, log_p)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return (1 − λ)²/v², v = λ + (1 − λ)u."""
        skew = constant(self.skew)
        return (1 - skew) ** 2 / (skew + (1 - skew) * u) ** 2

    def _inverse(self, t: Tensor) -> Tensor:
        rest = 1 - constant(self.skew)
        return (rest / (rest - t) - constant(self.skew)) / rest


@dataclass(frozen=True)
class _Chi2ToMixture(FDivergence):
    """The formulas of `Chi2Mixture` and `LeCam`."""

    @property
    @abstractmethod
    def _share(self) -> float: ...

    @property
    def at_zero(self) -> float:
        """Return f(0) = 1 − w."""
        return 1 - self._share

    @property
    def slope_at_zero(self) -> float:
        """Return f'(0) = w − 2."""
        return self._share - 2

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞) = (1 − w)²/w."""
        w = self._share
        return (1 - w) ** 2 / w if w > 0 else math.inf

    def _relative(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return p, q, m and (p − q)/m; where m is 0 in this precision, so is the last."""
        p, q, w = log_p.exp(), log_q.exp(), self._share
        m = torch.lerp(q, p, w).clamp(min=torch.finfo(p.dtype).tiny)
        return p, q, m, (p - q) / m

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − w)² (p − q)²/m."""
        w = self._share
        if w == 0:
            return PearsonChi2().terms(log_p, log_q)
        p, q, _, relative = self._relative(log_p, log_q)
        return (1 - w) ** 2 * (p - q) * relative

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return (1 − w)² p (p − q)(m + q)/m²."""
        w = self._share
        if w == 0:
            return PearsonChi2().p_slopes(log_p, log_q)
        p, q, m, relative = self._relative(log_p, log_q)
        return (1 - w) ** 2 * p * relative * (1 + q / m)

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return −(1 − w)² q (p − q)(m + p)/m²."""
        w = self._share
        if w == 0:
            return PearsonChi2().q_slopes(log_p, log_q)
        p, q, m, relative = self._relative(log_p, log_q)
        return -((1 - w) ** 2) * q * relative * (1 + p / m)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return 2(1 − w)²/v³, v = wu + 1 − w."""
        w = self._share
        return 2 * (1 - w) ** 2 / (w * u + 1 - w) ** 3

    def _inverse(self, t: Tensor) -> Tensor:
        w = self._share
        if w == 0:
            return 1 + t / 2
        return 1 + torch.expm1(torch.log1p(-t * w / (1 - w) ** 2) / -2) / w


@dataclass(frozen=True)
class Chi2Mixture(_Chi2ToMixture):
    r"""The :math:`\chi^2` of the target to a mixture, :math:`\sum_v (p_v - m_v)^2/m_v`, :math:`m = wp + (1 - w)q`.

    Pearson's χ² at w = 0, Le Cam's divergence at w = ½. With w > 0 it is finite whatever is 0.

    Args:
        weight: Weight w of the target in the mixture, in [0, 1).

    Example:
        >>> target, model = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
        >>> Chi2Mixture(0.5).exact(target_logits=target, model_logits=model)
        tensor([1.])

    References:
        Cundy and Ermon 2024, SequenceMatch (#50), whose χ² mixture has w = ½; Al-Hafez et al. 2023, LS-IQ.
    """

    weight: Annotated[Number, Setting("Weight of the target in the mixture; 0 is Pearson's χ².", ge=0, lt=1)] = 0.5

    declaration = Declaration(
        "chi2_mixture",
        "χ²(p ‖ w p + (1 − w) q): Pearson's χ² made finite",
        "Cundy and Ermon 2024, SequenceMatch (#50)",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists", "symmetric", "bounded_by_one"), {"weight": 0.5}),
            Example((*F_PROPERTIES, "inverse_exists"), {"weight": 0.1}),
            Example((*F_PROPERTIES, "inverse_exists"), {"weight": 0.0}),
        ),
    )

    @property
    def _share(self) -> float:
        return constant(self.weight)


@dataclass(frozen=True)
class LeCam(_Chi2ToMixture):
    r"""Le Cam's divergence :math:`\frac12 \sum_v (p_v - q_v)^2/(p_v + q_v)`, symmetric and at most 1.

    Also called triangular discrimination or Vincze–Le Cam distance, by some without the ½. Its square root is a metric.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> LeCam().exact(target_logits=target, model_logits=model)
        tensor([0.0667])

    References:
        Le Cam 1986; Polyanskiy and Wu 2025, "Information theory", section 7.1.
    """

    declaration = Declaration(
        "le_cam",
        "½ Σ (p − q)²/(p + q), at most 1",
        "Vincze 1981; Le Cam 1986",
        examples=(Example((*F_PROPERTIES, "inverse_exists", "symmetric", "bounded_by_one")),),
    )
    _share = 0.5
