"""Log-probabilities of tokens from hidden states and an output head, a slice of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sharpseq.scoring.requests import LABELS_ONLY, ScoreRequest

_TILE_ELEMENTS = {"cpu": 2**22}
_TILE_ELEMENTS_ELSEWHERE = 2**26
"""Logits looked at together: 16 MiB of float32 on a CPU, 256 MiB where starting a kernel costs more than its work."""

_NARROWEST_TILE = 256
"""Entries of the vocabulary; matrix products with fewer are slow."""


class HeadScores(NamedTuple):
    """What one output distribution says of one label each, in nats, shape (N,) each."""

    log_prob: Tensor
    mean_log_prob: Tensor
    entropy: Tensor


class LogitMap(NamedTuple):
    """From the output of a linear head to logits: ``softcap · tanh(scale · z / softcap)``, elementwise."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return logits of the same shape."""
        if self.scale != 1.0:
            outputs = outputs * self.scale
        return outputs if self.softcap is None else self.softcap * torch.tanh(outputs / self.softcap)

    def slope(self, logits: Tensor) -> Tensor | float:
        """Return the derivative, given the logits."""
        return self.scale if self.softcap is None else self.scale * (1 - (logits / self.softcap) ** 2)


_IDENTITY = LogitMap()


def score_rows(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    logit_map: LogitMap = _IDENTITY,
    temperature: float = 1.0,
    request: ScoreRequest = LABELS_ONLY,
) -> HeadScores:
    r"""Score one label a row without ever holding the logits (N, V).

    The vocabulary is gone through in slices with a running logarithm of the sum of exponentials. The backward of a
    trainable head computes each slice of logits once more, turns it into its gradient in place, and writes the head's
    gradient slice by slice. A frozen head needs no second pass: the gradient with respect to a hidden state is made of
    :math:`W_y` and :math:`\sum_v p(v) W_v`, which the forward keeps at the size of the hidden states.

    Args:
        hidden: Hidden states, shape (N, D).
        weight: Output embedding, shape (V, D), of the same dtype.
        labels: Ids in [0, V), shape (N,).
        bias: Output bias, shape (V,).
        logit_map: Applied to the head's outputs.
        temperature: Divides the logits afterwards.
        request: Whether the mean over the vocabulary and the entropy are wanted; its other entries play no part here.

    Returns:
        In float32 (float64 for float64 inputs): log p(label); the mean over the vocabulary of log p(v); and the
        entropy, without gradient. What is not asked for is zeros.

    Example:
        >>> asked = ScoreRequest(entropy=True)
        >>> scores = score_rows(torch.zeros(1, 4), torch.zeros(3, 4), torch.tensor([2]), request=asked)
        >>> scores.log_prob, scores.entropy
        (tensor([-1.0986]), tensor([1.0986]))
    """
    hidden, weight, bias = _autocast(hidden, weight, bias)
    log_prob, mean, spread = _HeadScores.apply(hidden, weight, bias, labels, logit_map, temperature, request)
    return HeadScores(log_prob, mean, spread)


def _autocast(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


class _HeadScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        logit_map: LogitMap,
        temperature: float,
        request: ScoreRequest,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        ctx.keeps_expectation = needs_hidden and not (needs_weight or needs_bias) and logit_map.softcap is None
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        rows = hidden.new_zeros(len(hidden), dtype=dtype)
        largest, total, chosen = rows - torch.inf, rows.clone(), rows.clone()
        logit_sum, weighted_sum = rows.clone(), rows.clone()
        expectation = torch.zeros_like(hidden, dtype=dtype) if ctx.keeps_expectation else None
        for tile in _tiles(hidden, weight):
            logits = _logits(hidden, weight, bias, tile, logit_map, temperature, dtype)
            place, hit = _places(labels, tile)
            chosen += torch.where(hit, logits.gather(1, place[:, None])[:, 0], 0)
            if request.vocab_mean:
                logit_sum += logits.sum(1)
            former = largest
            largest = torch.maximum(former, logits.amax(1))
            decay = (former - largest).exp_()
            if request.entropy:
                raw = logits.clone()
            powers = logits.sub_(largest[:, None]).exp_()
            total = total * decay + powers.sum(1)
            if request.entropy:
                weighted_sum = weighted_sum * decay + torch.linalg.vecdot(powers, raw)
            if expectation is not None:
                expectation.mul_(decay[:, None]).add_(powers.to(weight.dtype) @ weight[tile])
        normalizer = largest + total.log()
        if expectation is not None:
            expectation /= total[:, None]
        ctx.save_for_backward(hidden, weight, bias, labels, normalizer, expectation)
        ctx.logit_map, ctx.temperature, ctx.with_mean = logit_map, temperature, request.vocab_mean
        spread = normalizer - weighted_sum / total if request.entropy else weighted_sum
        ctx.mark_non_differentiable(spread)
        mean = logit_sum / len(weight) - normalizer if request.vocab_mean else logit_sum
        return chosen - normalizer, mean, spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, normalizer, expectation = ctx.saved_tensors
        grad_chosen, grad_mean, _ = grads
        if expectation is not None:
            slope = ctx.logit_map.scale / ctx.temperature
            grad_hidden = grad_chosen[:, None] * (weight[labels] - expectation)
            if ctx.with_mean:
                sums = [weight[tile].sum(0, dtype=normalizer.dtype) for tile in _tiles(hidden, weight)]
                mean_weight = torch.stack(sums).sum(0) / len(weight)
                grad_hidden += grad_mean[:, None] * (mean_weight - expectation)
            return (slope * grad_hidden).to(hidden.dtype), *[None] * 6
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden, dtype=normalizer.dtype) if needs_hidden else None
        grad_weight = torch.empty_like(weight) if needs_weight else None
        grad_bias = torch.empty_like(bias) if needs_bias else None
        to_all = -(grad_chosen + grad_mean if ctx.with_mean else grad_chosen)[:, None]
        for tile in _tiles(hidden, weight):
            logits = _logits(hidden, weight, bias, tile, ctx.logit_map, ctx.temperature, normalizer.dtype)
            slope = ctx.logit_map.slope(logits * ctx.temperature) / ctx.temperature
            grad = logits.sub_(normalizer[:, None]).exp_().mul_(to_all)
            if ctx.with_mean:
                grad += grad_mean[:, None] / len(weight)
            place, hit = _places(labels, tile)
            grad.scatter_add_(1, place[:, None], torch.where(hit, grad_chosen, 0)[:, None])
            grad = grad.mul_(slope).to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden += grad @ weight[tile]
            if grad_weight is not None:
                torch.mm(grad.T, hidden, out=grad_weight[tile])
            if grad_bias is not None:
                grad_bias[tile] = grad.sum(0)
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, grad_bias, *[None] * 4


def _tiles(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    elements = _TILE_ELEMENTS.get(hidden.device.type, _TILE_ELEMENTS_ELSEWHERE)
    width = max(elements // max(len(hidden), 1), _NARROWEST_TILE)
    for start in range(0, len(weight), width):
        yield slice(start, min(start + width, len(weight)))


def _logits(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tile: slice,
    logit_map: LogitMap,
    temperature: float,
    dtype: torch.dtype,
) -> Tensor:
    logits = logit_map(F.linear(hidden, weight[tile], None if bias is None else bias[tile]).to(dtype))
    return logits if temperature == 1.0 else logits / temperature


def _places(labels: Tensor, tile: slice) -> tuple[Tensor, Tensor]:
    """Return where in the slice each label lies, and whether it lies there at all."""
    hit = (labels >= tile.start) & (labels < tile.stop)
    return torch.where(hit, labels - tile.start, 0), hit
