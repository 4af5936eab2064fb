"""Log-probabilities of a few chosen entries of a softmax: all that a loss reads of a vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 2**20
"""Logits looked at together: 4 MiB in float32, which stays in the cache of one core."""


def chosen_log_probs(logits: Tensor, chosen: Tensor, *, with_mean: bool = False) -> tuple[Tensor, Tensor | None]:
    r"""Return :math:`\log p(v) = z_v - \log \sum_w e^{z_w}` for chosen entries v of each row.

    Computed in float32 (float64 for float64 logits) a few rows at a time; the backward recomputes the probabilities
    and writes the gradient once. Nothing of the size of the logits is kept beside the logits themselves.

    Args:
        logits: Unnormalised log-probabilities, shape (N, V).
        chosen: Ids of entries, shape (N, A); they may repeat.
        with_mean: Also return the mean over the vocabulary, :math:`\frac1V \sum_v \log p(v)`.

    Returns:
        Log-probabilities in nats, shape (N, A), and the mean, shape (N,), or None.

    Example:
        >>> log_probs, _ = chosen_log_probs(torch.zeros(1, 4), torch.tensor([[2]]))
        >>> log_probs
        tensor([[-1.3863]])
    """
    log_probs, means = _ChosenLogProbs.apply(logits, chosen, with_mean)
    return log_probs, means if with_mean else None


class _ChosenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, chosen: Tensor, with_mean: bool) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        normalizer = torch.empty(len(logits), dtype=dtype, device=logits.device)
        means = torch.zeros_like(normalizer)
        for rows in _chunks(logits):
            precise = logits[rows].to(dtype)
            torch.logsumexp(precise, 1, out=normalizer[rows])
            if with_mean:
                torch.mean(precise, 1, out=means[rows])
        ctx.save_for_backward(logits, chosen, normalizer)
        ctx.with_mean = with_mean
        return logits.gather(1, chosen).to(dtype) - normalizer[:, None], means - normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits, chosen, normalizer = ctx.saved_tensors
        grad_chosen, grad_means = grads
        total = grad_chosen.sum(1)
        if ctx.with_mean:
            total = total + grad_means
        grad_logits = torch.empty_like(logits)
        for rows in _chunks(logits):
            grad = torch.sub(logits[rows], normalizer[rows, None]).exp_().mul_(-total[rows, None])
            if ctx.with_mean:
                grad += grad_means[rows, None] / logits.shape[1]
            grad.scatter_add_(1, chosen[rows], grad_chosen[rows])
            grad_logits[rows] = grad
        return grad_logits, None, None


def _chunks(logits: Tensor) -> list[slice]:
    step = max(_CHUNK_ELEMENTS // max(logits.shape[1], 1), 1)
    return [slice(start, start + step) for start in range(0, len(logits), step)]


@torch.no_grad()
def entropies(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of each row of (N, V) in nats, shape (N,), without gradient."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    result = torch.empty(len(logits), dtype=dtype, device=logits.device)
    for rows in _chunks(logits):
        log_probs = torch.log_softmax(logits[rows], 1, dtype=dtype)
        result[rows] = -(log_probs.exp() * log_probs).sum(1)
    return result
