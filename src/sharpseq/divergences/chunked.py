"""Divergences from hidden states and output heads, a few positions at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sharpseq.divergences.heads import Head
from sharpseq.divergences.softmax_rows import check_pair, log_probs, precise, scaled, slices, through_softmax
from sharpseq.divergences.top_k import Buckets, TopK

if TYPE_CHECKING:
    from sharpseq.divergences.categorical import Divergence

_CHUNK_ELEMENTS = {"cpu": 2**25}
_CHUNK_ELEMENTS_ELSEWHERE = 2**27
"""Logits of one model held together: 128 MiB of float32 on a CPU, more where starting a kernel is dear."""


def chunked_values(
    divergence: Divergence,
    *,
    target: Head | TopK | Tensor,
    model: Head | Tensor,
    temperature: float,
    weights: Tensor | None,
) -> Tensor:
    """Return the divergence at each position, or their weighted sum; see `Divergence.chunked`."""
    positions, vocabulary = _extent(model)
    _check_target(target, positions, vocabulary)
    if isinstance(target, TopK):
        flat_target: Head | Buckets | Tensor = target.buckets()
    else:
        flat_target = target.cast() if isinstance(target, Head) else target.reshape(-1, target.shape[-1])
    if isinstance(model, Tensor):
        hidden, weight, bias, logit_map = model.reshape(-1, model.shape[-1]), None, None, None
    else:
        cast = model.cast()
        hidden, weight, bias, logit_map = cast.hidden, cast.weight, cast.bias, (cast.scale, cast.softcap)
    comparison = _Comparison(divergence, flat_target, temperature, logit_map)
    if weights is not None:
        if weights.shape != positions or weights.requires_grad:
            raise ValueError(
                f"`weights` must have the shape of the positions, {tuple(positions)}, and no gradient; "
                f"got {tuple(weights.shape)}{' with a gradient' if weights.requires_grad else ''}"
            )
        weights = weights.flatten()
    values: Tensor = _Chunked.apply(comparison, weights, hidden, weight, bias)
    return values.view(positions) if weights is None else values


def _extent(model: Head | Tensor) -> tuple[torch.Size, int]:
    if isinstance(model, Tensor):
        return model.shape[:-1], model.shape[-1]
    return model.hidden.shape[:-1], len(model.weight)


def _check_target(target: Head | TopK | Tensor, positions: torch.Size, vocabulary: int) -> None:
    if isinstance(target, TopK):
        if target.ids.shape[:-1] != positions:
            raise ValueError(
                f"the target has positions of shape {tuple(target.ids.shape[:-1])} and the model {tuple(positions)}; "
                "they must be the same"
            )
        if target.ids.numel() and not 0 <= int(target.ids.min()) <= int(target.ids.max()) < vocabulary:
            raise ValueError(
                f"`ids` of the target must be in [0, {vocabulary}), the model's vocabulary; "
                f"got {int(target.ids.min())} to {int(target.ids.max())}"
            )
        return
    if target.needs_gradient if isinstance(target, Head) else target.requires_grad:
        raise ValueError("the target wants a gradient, which goes to the model only here; detach it, or use `exact`")
    shape, size = _extent(target)
    check_pair(torch.Size([*shape, size]), torch.Size([*positions, vocabulary]))


class _Comparison(NamedTuple):
    """All of a comparison but the model's tensors."""

    divergence: Divergence
    target: Head | Buckets | Tensor
    temperature: float
    logit_map: tuple[float, float | None] | None

    def head(self, hidden: Tensor, weight: Tensor | None, bias: Tensor | None) -> Head | Tensor:
        """Return the model from its tensors."""
        if weight is None or self.logit_map is None:
            return hidden
        return Head(hidden, weight, bias, *self.logit_map)

    def run(
        self, model: Head | Tensor, *, values: Tensor | None = None, grad: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Compare all rows, a chunk at a time, in one buffer for each head.

        Args:
            model: The model, its rows in one line.
            values: Where D of each row is written.
            grad: What comes from above for each row; asks for gradients.

        Yields:
            Which rows, and the gradient with respect to the model's outputs before scale and softcap, shape (n, V),
            where that is asked for. The next chunk overwrites it.
        """
        like = model if isinstance(model, Tensor) else model.hidden
        shape, vocabulary = _extent(model)
        together = _CHUNK_ELEMENTS.get(like.device.type, _CHUNK_ELEMENTS_ELSEWHERE) // max(vocabulary, 1)
        size = (min(max(together, 1), shape[0]), vocabulary)
        ours = like.new_empty(size)
        theirs = self.target.hidden.new_empty(size) if isinstance(self.target, Head) else ours
        for start in range(0, shape[0], max(size[0], 1)):
            rows = slice(start, min(start + size[0], shape[0]))
            outputs = model[rows] if isinstance(model, Tensor) else model.outputs(rows, into=ours)
            target = self.target.outputs(rows, into=theirs) if isinstance(self.target, Head) else self.target
            for piece in slices(outputs):
                raw = outputs[piece].to(precise(outputs))
                logits = raw if isinstance(model, Tensor) else model.logits(raw)
                log_p, log_q, to_logits = self._log_probs(target, logits, rows, piece)
                if values is not None:
                    values[rows][piece] = self.divergence.rows(log_p, log_q)
                if grad is not None:
                    slopes = through_softmax(self.divergence.model_slopes(log_p, log_q), log_q)
                    grads = to_logits(scaled(slopes, grad[rows][piece, None] / self.temperature))
                    ours[piece] = grads if isinstance(model, Tensor) else model.to_outputs(grads, logits)
            yield rows, ours[: rows.stop - rows.start]

    def _log_probs(
        self, target: Tensor | Buckets, logits: Tensor, rows: slice, piece: slice
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Return both distributions of some positions, and the way from the model's to its logits."""
        place = slice(rows.start + piece.start, rows.start + piece.stop)
        if isinstance(target, Buckets):
            return target.beside(logits if self.temperature == 1.0 else logits / self.temperature, place)
        if isinstance(self.target, Head):
            target_logits = self.target.logits(target[piece].to(logits.dtype))
        else:
            target_logits = target[place]
        log_p = log_probs(target_logits, self.temperature, dtype=logits.dtype)
        return log_p, log_probs(logits, self.temperature, dtype=logits.dtype), _unchanged


def _unchanged(grads: Tensor) -> Tensor:
    return grads


class _Chunked(torch.autograd.Function):
    """With weights the result is their weighted sum, whose gradient the forward can make: only a factor comes later.

    So it can for each row where the head is frozen, since the gradient of a row is its own up to a factor.
    """

    @staticmethod
    def forward(
        ctx: Any,
        comparison: _Comparison,
        weights: Tensor | None,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        needs = ctx.needs_input_grad[2:]
        values = hidden.new_empty(len(hidden), dtype=precise(hidden))
        is_made_now = any(needs) and (weights is not None or (weight is not None and needs == (True, False, False)))
        grad = None
        if is_made_now:
            grad = torch.ones_like(values) if weights is None else weights.to(values.dtype)
        made = _gradients(comparison, hidden, weight, bias, needs=needs, values=values, grad=grad)
        ctx.comparison, ctx.is_made, ctx.is_sum = comparison, is_made_now, weights is not None
        ctx.save_for_backward(*made) if is_made_now else ctx.save_for_backward(hidden, weight, bias)
        return values if weights is None else torch.where(weights == 0, 0, weights * values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.is_made:
            return (
                None,
                None,
                *_gradients(ctx.comparison, *ctx.saved_tensors, needs=ctx.needs_input_grad[2:], grad=grad),
            )
        factor = grad if ctx.is_sum else grad[:, None]
        return None, None, *(None if made is None else scaled(made * 1, factor) for made in ctx.saved_tensors)


def _gradients(
    comparison: _Comparison,
    hidden: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    needs: tuple[bool, bool, bool],
    values: Tensor | None = None,
    grad: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Go through all rows; write values where wanted, and sum gradients up where something comes from above."""
    model = comparison.head(hidden, weight, bias)
    dtype = precise(hidden)
    needs_hidden, needs_weight, needs_bias = (need and grad is not None for need in needs)
    grad_hidden = torch.empty_like(hidden) if needs_hidden else None
    grad_weight = torch.zeros_like(weight, dtype=dtype) if needs_weight and weight is not None else None
    grad_bias = torch.zeros_like(bias, dtype=dtype) if needs_bias and bias is not None else None
    for rows, grads in comparison.run(model, values=values, grad=grad):
        if grad_hidden is not None:
            grad_hidden[rows] = grads if weight is None else grads @ weight
        if grad_weight is not None and isinstance(model, Head):
            for tile in model.tiles():
                _add_product(grad_weight[tile], grads[:, tile].T, hidden[rows])
        if grad_bias is not None:
            grad_bias += grads.sum(0, dtype=dtype)
    return (
        grad_hidden,
        None if grad_weight is None else grad_weight.to(hidden.dtype),
        None if grad_bias is None else grad_bias.to(hidden.dtype),
    )


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a total, which is more precise than the factors where they have half precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
