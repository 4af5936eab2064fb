"""What every f-divergence has: a generator, and a number between two categorical distributions."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpseq.declarations import Method


@dataclass(frozen=True)
class FDivergence(Method):
    r"""An f-divergence, :math:`D_f(p\|q) = \sum_v q_v f(p_v / q_v)`, with f convex and f(1) = 0.

    **One direction everywhere.** The first distribution p is the target, what is to be learned; the second, q, is the
    model; and f is a function of :math:`u = p/q`, target over model. So ``KullbackLeibler()(target, model)`` is the KL
    divergence KL(target ‖ model) that maximum likelihood minimises. For a policy that stays near a reference, p is the
    policy and q the reference.

    Calling one takes log-probabilities; `exact` takes logits. Both compute in log space, in at least float32. A value
    is infinite where the divergence is, such as KL with a target token that the model rules out. Where a value is
    finite, so is its gradient.
    """

    @property
    def name(self) -> str:
        """The name in lists and recipes."""
        return self.declaration.name

    # The generator

    @abstractmethod
    def f(self, u: Tensor) -> Tensor:
        """Return the generator at ratios u > 0."""

    @abstractmethod
    def derivative(self, u: Tensor) -> Tensor:
        """Return f'(u)."""

    @abstractmethod
    def second_derivative(self, u: Tensor) -> Tensor:
        """Return f''(u)."""

    @property
    @abstractmethod
    def slopes(self) -> tuple[float, float]:
        """The range of f': its limits at 0 and at infinity."""

    @property
    @abstractmethod
    def limits(self) -> tuple[float, float]:
        """f(0), and the limit of f(u)/u at infinity: what mass costs that only one of the distributions has."""

    @property
    def is_invertible(self) -> bool:
        """Whether f' has an inverse."""
        return True

    def inverse_derivative(self, t: Tensor) -> Tensor:
        """Return the u with f'(u) = t.

        Args:
            t: Slopes; where one is outside `slopes`, the result is 0 or infinite.

        Raises:
            ValueError: If f' has no inverse.
        """
        if not self.is_invertible:
            raise ValueError(f"`{self.name}` has a derivative without an inverse; choose a strictly convex divergence")
        low, high = self.slopes
        inside = (t > low) & (t < high)
        found = self._inverse_inside(torch.where(inside, t, self.derivative(torch.ones_like(t))))
        return torch.where(inside, found, torch.where(t <= low, 0.0, torch.inf))

    def _inverse_inside(self, t: Tensor) -> Tensor:
        """Return the inverse for slopes inside the range, by bisection of log u, without gradient."""
        with torch.no_grad():
            low, high = torch.full_like(t, -60.0), torch.full_like(t, 60.0)
            for _ in range(70):
                middle = (low + high) / 2
                is_below = self.derivative(middle.exp()) < t
                low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
            return ((low + high) / 2).exp()

    def conjugate(self, t: Tensor) -> Tensor:
        r"""Return the convex conjugate :math:`f^*(t) = \sup_{u \ge 0} u t - f(u)`.

        Args:
            t: Slopes; infinite above the largest slope of f.
        """
        low, high = self.slopes
        inside = (t > low) & (t < high)
        u = self._inverse_inside(torch.where(inside, t, self.derivative(torch.ones_like(t))))
        below = torch.full_like(t, -self.limits[0])
        return torch.where(inside, u * t - self.f(u), torch.where(t <= low, below, torch.inf))

    # Between distributions

    @abstractmethod
    def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return what each outcome adds, in log space, so that nothing overflows that need not.

        Args:
            log_p: The target's log-probabilities in nats, −inf allowed, shape (…, V).
            log_q: The model's, shape (…, V).
        """

    def __call__(self, target: Tensor, model: Tensor) -> Tensor:
        """Return the divergence between distributions given by log-probabilities.

        Args:
            target: Log-probabilities in nats, shape (…, V); each row sums to 1 in probability.
            model: Likewise.

        Returns:
            Divergences in nats, or without a unit where f has no logarithm, shape (…).

        Raises:
            ValueError: If the shapes differ.
        """
        if target.shape != model.shape:
            raise ValueError(
                f"`target` {tuple(target.shape)} and `model` {tuple(model.shape)} must have the same shape"
            )
        return self.terms(target, model).sum(-1)

    def exact(self, *, target_logits: Tensor, model_logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the divergence between distributions given by logits.

        Args:
            target_logits: Unnormalised log-probabilities of the target, shape (…, V).
            model_logits: Those of the model.
            temperature: Divides both; greater than 0.

        Returns:
            Shape (…), in at least float32.

        Raises:
            ValueError: If the shapes differ, or ``temperature`` is not positive.

        Example:
            >>> from sharpseq.divergences import KullbackLeibler
            >>> KullbackLeibler().exact(target_logits=torch.tensor([0.0, 0.0]), model_logits=torch.tensor([1.0, 0.0]))
            tensor(0.1201)
        """
        if not temperature > 0:
            raise ValueError(f"`temperature` must be greater than 0; got {temperature}")
        return self(log_probs(target_logits, temperature), log_probs(model_logits, temperature))


def log_probs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return normalised log-probabilities in at least float32."""
    raised = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.log_softmax(raised if temperature == 1.0 else raised / temperature, dim=-1)


def weighted_difference(weights: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """Return weights · (log a − log b), 0 where the weight is 0, without a NaN in value or gradient."""
    has_weight = weights > 0
    difference = torch.where(has_weight, log_a, 0.0) - torch.where(has_weight, log_b, 0.0)
    return weights * difference


def log_mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """Return log(share · p + (1 − share) · q), for a share in (0, 1)."""
    # Where both are −inf, logaddexp has a NaN for a gradient.
    is_empty = (log_p == -torch.inf) & (log_q == -torch.inf)
    first = torch.where(is_empty, 0.0, log_p) + math.log(share)
    second = torch.where(is_empty, 0.0, log_q) + math.log1p(-share)
    return torch.where(is_empty, -torch.inf, torch.logaddexp(first, second))
