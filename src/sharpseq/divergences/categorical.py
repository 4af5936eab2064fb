"""Divergences between categorical distributions: their value from logits, and a gradient in closed form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sharpseq.declarations import Method
from sharpseq.divergences.chunked import chunked_values
from sharpseq.divergences.heads import Head
from sharpseq.divergences.softmax_rows import (
    check_pair,
    check_temperature,
    log_probs,
    precise,
    scaled,
    slices,
    through_softmax,
)
from sharpseq.divergences.top_k import TopK

PROPERTIES = (
    "zero_at_equality_and_never_negative",
    "gradients_are_right",
    "keeps_shape_and_precision",
    "finite_at_extremes",
    "excluded_entries_count_for_nothing",
    "temperature_divides_both",
    "chunked_is_exact",
    "all_of_a_top_k_is_exact",
)
"""What every divergence between categorical distributions keeps (``tests/contracts``)."""


@dataclass(frozen=True)
class Divergence(Method, ABC):
    r"""A number :math:`D(\text{target} \,\|\, \text{model}) \ge 0`, 0 where both distributions are the same.

    The target always comes first, and every argument is named. A subclass gives the value of rows of log-probabilities
    and their slopes, the partial derivatives with respect to log p (the target's) and log q (the model's); the way
    through the softmax is the same for all:
    :math:`\partial D/\partial z_v = s_v - q_v \sum_w s_w` with :math:`s = \partial D/\partial \log q`.
    """

    @abstractmethod
    def rows(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return D of each row.

        Args:
            log_p: The target's log-probabilities, shape (N, V), −inf where a probability is 0.
            log_q: The model's, same shape.

        Returns:
            Shape (N,), in nats; +inf where that is the value.
        """

    @abstractmethod
    def model_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log q of each entry, shape (N, V), every entry on its own (no sum to 1 is assumed)."""

    @abstractmethod
    def target_slopes(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Return ∂D/∂log p of each entry, shape (N, V)."""

    def exact(self, *, target_logits: Tensor, model_logits: Tensor, temperature: float = 1.0) -> Tensor:
        r"""Return :math:`D(\mathrm{softmax}(target/\tau) \,\|\, \mathrm{softmax}(model/\tau))` at each position.

        Computed in float32 (float64 for float64 logits) from log-probabilities, so log-probabilities serve as logits
        too, and a logit of −inf is a probability of 0. Gradients go to both. Only the logits are kept for the
        backward; no second derivative.

        Args:
            target_logits: Unnormalised log-probabilities, shape (..., V).
            model_logits: The same shape.
            temperature: Divides both, greater than 0. No factor :math:`\tau^2` is put in.

        Returns:
            Shape (...), in nats, not reduced. +inf where that is the value (a KL where the model excludes what the
            target allows), and where a value is too large for the precision; the gradient of such a row is that of its
            finite terms, or not finite where a term is too large.

        Raises:
            ValueError: If shapes differ or the temperature is not positive.
        """
        check_pair(target_logits.shape, model_logits.shape)
        check_temperature(temperature)
        values: Tensor = _Exact.apply(
            self,
            target_logits.reshape(-1, target_logits.shape[-1]),
            model_logits.reshape(-1, model_logits.shape[-1]),
            temperature,
        )
        return values.view(model_logits.shape[:-1])

    def chunked(
        self,
        *,
        target: Head | TopK | Tensor,
        model: Head | Tensor,
        temperature: float = 1.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the same as `exact` without ever holding all logits, a few positions at a time.

        The backward computes the logits once more; where the model's head is frozen, the forward makes the gradient
        at once and the backward is a product. Values and gradients are those of `exact`. The gradient goes to the
        model only.

        Args:
            target: A frozen `Head` with its hidden states, logits of shape (..., V), or the stored largest
                log-probabilities of a teacher, `TopK`. What a `TopK` leaves out is compared as one entry: for
                f-divergences and Rényi's that is a lower bound, which grows to the whole with k; for others none.
            model: A `Head` with hidden states of shape (..., D), or logits of shape (..., V).
            temperature: Divides the logits of both, greater than 0. A `TopK` is taken as it is: store it at this
                temperature.
            weights: What each position counts, shape (...); 0 leaves one out, whatever its value. With them the result
                is the weighted sum, and the forward makes the gradient of a trained head too: a third fewer products.

        Returns:
            Shape (...), in nats, not reduced; with ``weights``, one number.

        Raises:
            ValueError: If shapes or vocabularies differ, the target wants a gradient, or ids are not of the vocabulary.
        """
        check_temperature(temperature)
        return chunked_values(self, target=target, model=model, temperature=temperature, weights=weights)


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, divergence: Divergence, target: Tensor, model: Tensor, temperature: float) -> Tensor:
        values = model.new_empty(len(model), dtype=precise(target, model))
        for rows in slices(model):
            log_p = log_probs(target[rows], temperature, dtype=values.dtype)
            values[rows] = divergence.rows(log_p, log_probs(model[rows], temperature, dtype=values.dtype))
        ctx.save_for_backward(target, model)
        ctx.divergence, ctx.temperature = divergence, temperature
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        target, model = ctx.saved_tensors
        _, needs_target, needs_model, _ = ctx.needs_input_grad
        grad_target = torch.empty_like(target) if needs_target else None
        grad_model = torch.empty_like(model) if needs_model else None
        for rows in slices(model):
            log_p = log_probs(target[rows], ctx.temperature, dtype=grad.dtype)
            log_q = log_probs(model[rows], ctx.temperature, dtype=grad.dtype)
            scale = grad[rows, None] / ctx.temperature
            if grad_model is not None:
                slopes = ctx.divergence.model_slopes(log_p, log_q)
                grad_model[rows] = scaled(through_softmax(slopes, log_q), scale)
            if grad_target is not None:
                slopes = ctx.divergence.target_slopes(log_p, log_q)
                grad_target[rows] = scaled(through_softmax(slopes, log_p), scale)
        return None, grad_target, grad_model, None
