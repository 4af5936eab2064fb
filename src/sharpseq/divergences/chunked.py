"""Divergences from hidden states and output heads, a few positions at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sharpseq.divergences.heads import Head
from sharpseq.divergences.softmax_rows import check_pair, log_probs, precise, scaled, slices, through_softmax
from sharpseq.divergences.top_k import TopK

if TYPE_CHECKING:
    from sharpseq.divergences.categorical import Divergence

_CHUNK_BYTES = {"cpu": 2**26}
_CHUNK_BYTES_ELSEWHERE = 2**28
"""Logits of one model held together: 64 MiB on a CPU, 256 MiB where starting a kernel costs more than its work."""


def chunked_values(
    divergence: Divergence, *, target: Head | TopK | Tensor, model: Head | Tensor, temperature: float
) -> Tensor:
    """Return the divergence at each position; see `Divergence.chunked`."""
    positions, vocabulary = _extent(model)
    _check_target(target, positions, vocabulary)
    if isinstance(target, TopK):
        flat_target: Head | TopK | Tensor = target.flatten()
    else:
        flat_target = target.cast() if isinstance(target, Head) else target.flatten(0, -2)
    if isinstance(model, Tensor):
        hidden, weight, bias, logit_map = model.flatten(0, -2), None, None, None
    else:
        cast = model.cast()
        hidden, weight, bias, logit_map = cast.hidden, cast.weight, cast.bias, (cast.scale, cast.softcap)
    comparison = _Comparison(divergence, flat_target, temperature, logit_map)
    values: Tensor = _Chunked.apply(comparison, hidden, weight, bias)
    return values.view(positions)


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
    target: Head | TopK | Tensor
    temperature: float
    logit_map: tuple[float, float | None] | None

    def head(self, hidden: Tensor, weight: Tensor | None, bias: Tensor | None) -> Head | Tensor:
        """Return the model from its tensors."""
        if weight is None or self.logit_map is None:
            return hidden
        return Head(hidden, weight, bias, *self.logit_map)

    def chunk(self, model: Head | Tensor, rows: slice, *, values: Tensor | None, grad: Tensor | None) -> Tensor:
        """Compare some rows.

        Args:
            model: The model, its rows in one line.
            rows: Which.
            values: Where D of each of these rows is written.
            grad: What comes from above for each of these rows; asks for the gradient.

        Returns:
            The gradient with respect to the model's outputs before scale and softcap, shape (n, V), where asked for.
        """
        outputs = model[rows].clone() if isinstance(model, Tensor) else model.outputs(rows)
        target = self.target.outputs(rows) if isinstance(self.target, Head) else self.target
        for piece in slices(outputs):
            raw = outputs[piece].to(precise(outputs))
            logits = raw if isinstance(model, Tensor) else model.logits(raw)
            found, grads = self._compare(target, logits, rows, piece, wants_grads=grad is not None)
            if values is not None:
                values[piece] = found
            if grads is not None and grad is not None:
                grads = scaled(grads, grad[piece, None])
                outputs[piece] = grads if isinstance(model, Tensor) else model.to_outputs(grads, logits)
        return outputs

    def _compare(
        self, target: Tensor | TopK, logits: Tensor, rows: slice, piece: slice, *, wants_grads: bool
    ) -> tuple[Tensor, Tensor | None]:
        inverse = 1 / self.temperature
        if isinstance(target, TopK):
            place = slice(rows.start + piece.start, rows.start + piece.stop)
            found, grads = target.compare(self.divergence, logits * inverse, place, wants_grads=wants_grads)
            return found, None if grads is None else grads * inverse
        if isinstance(self.target, Head):
            target_logits = self.target.logits(target[piece].to(logits.dtype))
        else:
            target_logits = target[rows.start + piece.start : rows.start + piece.stop]
        log_p = log_probs(target_logits, self.temperature, dtype=logits.dtype)
        log_q = log_probs(logits, self.temperature, dtype=logits.dtype)
        found = self.divergence.rows(log_p, log_q)
        if not wants_grads:
            return found, None
        return found, through_softmax(self.divergence.model_slopes(log_p, log_q), log_q) * inverse


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, comparison: _Comparison, hidden: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        _, needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad
        model = comparison.head(hidden, weight, bias)
        values = hidden.new_empty(len(hidden), dtype=precise(hidden))
        # A frozen head lets the forward make the whole gradient: that of a row is its own, up to a factor.
        is_frozen = needs_hidden and weight is not None and not (needs_weight or needs_bias)
        ones = torch.ones_like(values)
        grad_hidden = torch.empty_like(hidden, dtype=values.dtype) if is_frozen else None
        for rows in _chunks(model):
            grads = comparison.chunk(model, rows, values=values[rows], grad=ones[rows] if is_frozen else None)
            if grad_hidden is not None and weight is not None:
                grad_hidden[rows] = grads @ weight
        ctx.comparison = comparison
        ctx.save_for_backward(hidden, weight, bias, grad_hidden)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, kept = ctx.saved_tensors
        if kept is not None:
            return None, scaled(kept * 1, grad[:, None]).to(hidden.dtype), None, None
        _, needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad
        model = ctx.comparison.head(hidden, weight, bias)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=grad.dtype) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=grad.dtype) if needs_bias else None
        for rows in _chunks(model):
            grads = ctx.comparison.chunk(model, rows, values=None, grad=grad[rows])
            if grad_hidden is not None:
                grad_hidden[rows] = grads if weight is None else grads @ weight
            if grad_weight is not None:
                _add_product(grad_weight, grads, hidden[rows])
            if grad_bias is not None:
                grad_bias += grads.sum(0, dtype=grad.dtype)
        return (
            None,
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
        )


def _add_product(total: Tensor, grads: Tensor, hidden: Tensor) -> None:
    """Add gradsᵀ·hidden to a total, which is more precise than they are where they have half precision."""
    if total.dtype == grads.dtype:
        total.addmm_(grads.T, hidden)
        return
    width = 2**14
    for start in range(0, len(total), width):
        total[start : start + width] += grads[:, start : start + width].T @ hidden


def _chunks(model: Head | Tensor) -> Iterator[slice]:
    values = model if isinstance(model, Tensor) else model.hidden
    shape, vocabulary = _extent(model)
    width = values.element_size() * max(vocabulary, 1)
    step = max(_CHUNK_BYTES.get(values.device.type, _CHUNK_BYTES_ELSEWHERE) // width, 1)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))
