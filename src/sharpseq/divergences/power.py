"""Divergences whose f is a power of the ratio: α, Tsallis, χ², Hellinger."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Number, Setting, constant
from sharpseq.divergences.f_divergence import F_PROPERTIES, FDivergence


@dataclass(frozen=True)
class PowerDivergence(FDivergence):
    r"""A multiple of :math:`f_\alpha(u) = \frac{u^\alpha - 1 - \alpha(u - 1)}{\alpha(\alpha - 1)}`, its limits at 0, 1.

    The limits are those of KL (α = 1) and of its reverse (α = 0), and near them no digits are lost.
    """

    @property
    @abstractmethod
    def _exponent(self) -> float: ...

    @property
    def _scale(self) -> float:
        return 1.0

    @property
    def at_zero(self) -> float:
        """Return f(0): scale/α, +inf for α ≤ 0."""
        return self._scale / self._exponent if self._exponent > 0 else math.inf

    @property
    def slope_at_zero(self) -> float:
        """Return f'(0): −scale/(α − 1), −inf for α ≤ 1."""
        return -self._scale / (self._exponent - 1) if self._exponent > 1 else -math.inf

    @property
    def slope_at_infinity(self) -> float:
        """Return f'(∞): scale/(1 − α), +inf for α ≥ 1."""
        return self._scale / (1 - self._exponent) if self._exponent < 1 else math.inf

    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return q·f(p/q), written around the nearer of the two limits."""
        alpha, log_u = self._exponent, log_p - log_q
        difference = log_p.exp() - log_q.exp()
        if alpha >= 0.5:
            return (_grown(log_p, log_u, alpha - 1) - difference) * (self._scale / alpha)
        return (_grown(log_q, log_u, alpha) - difference) * (self._scale / (alpha - 1))

    def p_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return p (u^(α−1) − 1)/(α − 1)."""
        return self._scale * _grown(log_p, log_p - log_q, self._exponent - 1)

    def q_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return −q (u^α − 1)/α."""
        return -self._scale * _grown(log_q, log_p - log_q, self._exponent)

    def second_derivative(self, u: Tensor) -> Tensor:
        """Return u^(α−2), scaled."""
        return self._scale * u ** (self._exponent - 2)

    def _inverse(self, t: Tensor) -> Tensor:
        power = self._exponent - 1
        t = t / self._scale
        return t.exp() if power == 0 else (torch.log1p(power * t) / power).exp()


def _grown(log_mass: Tensor, log_u: Tensor, power: float) -> Tensor:
    """Return mass·(u^power − 1)/power, mass·log u at power 0, without an overflow on the way."""
    if power == 0:
        return log_mass.exp() * log_u
    growth = log_u * power
    near = log_mass.exp() * torch.expm1(growth.clamp(-1, 1))
    far = (growth + log_mass).exp() - log_mass.exp()
    return torch.where(growth.abs() < 1, near, far) / power


@dataclass(frozen=True)
class Alpha(PowerDivergence):
    r"""The α-divergence :math:`\frac{1}{\alpha(\alpha - 1)}\left(\sum_v p_v^\alpha q_v^{1-\alpha} - 1\right)`.

    α = 1 is KL(target ‖ model), α = 0 KL(model ‖ target), ½ four times the squared Hellinger distance, 2 and −1 half of
    Pearson's and Neyman's χ². A larger α covers more. +inf where the model lacks what the target allows and α ≥ 1, or
    the target lacks what the model allows and α ≤ 0.

    Args:
        alpha: Any number.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> Alpha(2.0).exact(target_logits=target, model_logits=model)
        tensor([0.1250])

    References:
        Wang et al. 2021, AlphaNet (#53), equation 5; Amari 1985.
    """

    alpha: Annotated[Number, Setting("1 is KL(target ‖ model), 0 KL(model ‖ target); larger covers more.")] = 0.5

    declaration = Declaration(
        "alpha",
        "α-divergence (Σ p^α q^(1−α) − 1) / (α(α − 1)), in the form of AlphaNet",
        "Amari 1985; Wang et al. 2021, AlphaNet (#53)",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists", "symmetric"), {"alpha": 0.5}),
            Example((*F_PROPERTIES, "inverse_exists"), {"alpha": -1.0}),
            Example((*F_PROPERTIES, "inverse_exists"), {"alpha": 3.0}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_kl"), {"alpha": 1.0}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_reverse_kl"), {"alpha": 0.0}),
        ),
    )

    @property
    def _exponent(self) -> float:
        return constant(self.alpha)


@dataclass(frozen=True)
class AmariAlpha(PowerDivergence):
    r"""Amari's own form, :math:`\frac{4}{1 - a^2}\left(1 - \sum_v p_v^{(1-a)/2} q_v^{(1+a)/2}\right)`.

    The same family as `Alpha` with :math:`\alpha = (1 - a)/2`: a = −1 is KL(target ‖ model), a = 1 KL(model ‖ target),
    and exchanging the two distributions is a change of sign of a.

    Args:
        a: Any number.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> AmariAlpha(-3.0).exact(target_logits=target, model_logits=model)
        tensor([0.1250])

    References:
        Amari 1985; Amari and Nagaoka 2000, section 3.2.
    """

    a: Annotated[Number, Setting("−1 is KL(target ‖ model), 1 KL(model ‖ target); smaller covers more.")] = 0.0

    declaration = Declaration(
        "amari_alpha",
        "α-divergence 4/(1 − a²)·(1 − Σ p^((1−a)/2) q^((1+a)/2)), in Amari's form",
        "Amari 1985",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists", "symmetric"), {"a": 0.0}),
            Example((*F_PROPERTIES, "inverse_exists"), {"a": 0.5}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_kl"), {"a": -1.0}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_reverse_kl"), {"a": 1.0}),
        ),
    )

    @property
    def _exponent(self) -> float:
        return (1 - constant(self.a)) / 2


@dataclass(frozen=True)
class Tsallis(PowerDivergence):
    r"""The divergence :math:`\sum_v p_v \left[-\ln_q(q_v/p_v)\right] = \frac{\sum_v p_v^q q_v^{1-q} - 1}{q - 1}`.

    With the q-logarithm :math:`\ln_q x = (x^{1-q} - 1)/(1 - q)`; q → 1 is KL(target ‖ model), q = 2 Pearson's χ². It is
    q times `Alpha`. For q > 1, f'(0) is finite: a model that is made from rewards through (f')⁻¹ gives bad entries
    exactly 0.

    Args:
        q: Order, greater than 0.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> Tsallis(2.0).exact(target_logits=target, model_logits=model)
        tensor([0.2500])

    References:
        Tsallis 1998; Zhu et al. 2023, MVI(q) (#41).
    """

    q: Annotated[Number, Setting("Order; 1 is KL(target ‖ model), 2 Pearson's χ².", gt=0)] = 2.0

    declaration = Declaration(
        "tsallis",
        "(Σ p^q m^(1−q) − 1) / (q − 1), m the model: KL with the q-logarithm",
        "Tsallis 1998; Zhu et al. 2023, MVI(q) (#41)",
        examples=(
            Example((*F_PROPERTIES, "inverse_exists"), {"q": 2.0}),
            Example((*F_PROPERTIES, "inverse_exists"), {"q": 0.3}),
            Example((*F_PROPERTIES, "inverse_exists", "equals_kl"), {"q": 1.0}),
        ),
    )

    @property
    def _exponent(self) -> float:
        return constant(self.q)

    @property
    def _scale(self) -> float:
        return constant(self.q)


@dataclass(frozen=True)
class PearsonChi2(PowerDivergence):
    r"""Pearson's :math:`\chi^2(\text{target} \| \text{model}) = \sum_v (p_v - q_v)^2 / q_v`.

    It grows with the square of a ratio: one entry that the model finds improbable can be the whole of it. +inf where
    the model gives 0 to what the target allows.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> PearsonChi2().exact(target_logits=target, model_logits=model)
        tensor([0.2500])
    """

    declaration = Declaration(
        "pearson_chi2",
        "χ²(target ‖ model) = Σ (p − q)² / q",
        "Pearson 1900",
        examples=(Example((*F_PROPERTIES, "inverse_exists")),),
    )
    _exponent = 2.0
    _scale = 2.0


@dataclass(frozen=True)
class NeymanChi2(PowerDivergence):
    r"""Neyman's :math:`\chi^2(\text{model} \| \text{target}) = \sum_v (p_v - q_v)^2 / p_v`.

    Pearson's with the two exchanged. +inf where the target gives 0 to what the model allows.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> NeymanChi2().exact(target_logits=target, model_logits=model)
        tensor([0.3333])
    """

    declaration = Declaration(
        "neyman_chi2",
        "χ²(model ‖ target) = Σ (p − q)² / p",
        "Neyman 1949",
        examples=(Example((*F_PROPERTIES, "inverse_exists")),),
    )
    _exponent = -1.0
    _scale = 2.0


@dataclass(frozen=True)
class SquaredHellinger(PowerDivergence):
    r"""The squared Hellinger distance :math:`\frac12 \sum_v (\sqrt{p_v} - \sqrt{q_v})^2`, at most 1.

    Finite whatever is 0; its square root is a metric.

    Example:
        >>> target, model = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> SquaredHellinger().exact(target_logits=target, model_logits=model)
        tensor([0.0341])
    """

    declaration = Declaration(
        "squared_hellinger",
        "½ Σ (√p − √q)², at most 1",
        "Hellinger 1909",
        examples=(Example((*F_PROPERTIES, "symmetric", "bounded_by_one", "inverse_exists")),),
    )
    _exponent = 0.5
    _scale = 0.25
