"""Targets of which only the largest log-probabilities are known; the others are one entry, the tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_TOLERANCE = 0.01
"""By how much stored probabilities may miss a sum of 1: what half precision does to a flat distribution."""


@dataclass(frozen=True)
class TopK:
    """The largest log-probabilities of a target at each position, and the mass of its tail.

    Args:
        ids: Entries of the vocabulary, each at most once in a position, shape (..., k).
        log_probs: Their log-probabilities in nats, same shape, −inf where a probability is 0.
        log_tail: Logarithm of the mass of all other entries, shape (...). None: what is missing to 1. A stored tail
            is more precise; both are scaled to a sum of exactly 1.

    Raises:
        ValueError: If shapes differ, ids repeat, or the masses miss a sum of 1 by more than one in a hundred.

    Example:
        >>> TopK(torch.tensor([[4, 7]]), torch.tensor([[0.5, 0.25]]).log()).log_tail.exp()
        tensor([0.2500])
    """

    ids: Tensor
    log_probs: Tensor
    log_tail: Tensor | None = None

    def __post_init__(self) -> None:
        if self.ids.shape != self.log_probs.shape or not self.ids.ndim or not self.ids.shape[-1]:
            raise ValueError(
                f"`ids` and `log_probs` must have the same shape (..., k), k at least 1; got {tuple(self.ids.shape)} "
                f"and {tuple(self.log_probs.shape)}"
            )
        if bool((self.ids.sort(-1).values.diff(dim=-1) == 0).any()):
            raise ValueError("`ids` has an entry twice in one position")
        log_probs = self.log_probs.detach().to(torch.promote_types(self.log_probs.dtype, torch.float32))
        mass = log_probs.exp().sum(-1)
        if self.log_tail is None:
            if not bool((mass <= 1 + _TOLERANCE).all()):
                raise ValueError(
                    f"`log_probs` has a mass of {float(mass.max()):.4g}, which leaves less than 0 for the tail"
                )
            log_tail = (1 - mass).clamp(min=0).log()
        else:
            if self.log_tail.shape != mass.shape:
                raise ValueError(f"`log_tail` must have shape {tuple(mass.shape)}; got {tuple(self.log_tail.shape)}")
            log_tail = self.log_tail.detach().to(log_probs.dtype)
            total = mass + log_tail.exp()
            if not bool(((total - 1).abs() <= _TOLERANCE).all()):
                worst = float(total.flatten()[(total - 1).abs().argmax()])
                raise ValueError(f"`log_probs` and `log_tail` have a mass of {worst:.4g} together; it must be 1")
        total = torch.logaddexp(log_probs.logsumexp(-1), log_tail)
        object.__setattr__(self, "log_probs", log_probs - total[..., None])
        object.__setattr__(self, "log_tail", log_tail - total)

    @classmethod
    def of_logits(cls, logits: Tensor, k: int, *, temperature: float = 1.0) -> TopK:
        """Keep the k largest log-probabilities of logits of shape (..., V), and the tail.

        Raises:
            ValueError: If k is not in [1, V].
        """
        if not 1 <= k <= logits.shape[-1]:
            raise ValueError(f"`k` must be in [1, {logits.shape[-1]}], the size of the vocabulary; got {k}")
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_probs = torch.log_softmax(logits.detach().to(dtype) / temperature, -1)
        largest, ids = log_probs.topk(k, -1)
        return cls(ids, largest, log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1))

    def buckets(self) -> Buckets:
        """Return it with its positions in one line and the tail as a last entry."""
        assert self.log_tail is not None  # for type checkers: set when it is made
        log_p = torch.cat([self.log_probs, self.log_tail[..., None]], -1)
        return Buckets(self.ids.reshape(-1, self.ids.shape[-1]), log_p.reshape(-1, log_p.shape[-1]))


class Buckets(NamedTuple):
    """Entries of each position, shape (N, k), and log-probabilities of these and of the tail, shape (N, k + 1)."""

    ids: Tensor
    log_p: Tensor

    def beside(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Return some positions and a model's there, as distributions over the k entries and the tail.

        Args:
            logits: The model's, shape (n, V).
            rows: Which positions these are, of positions in one line.

        Returns:
            Log-probabilities of the target and of the model, shape (n, k + 1), and the way from a gradient with respect
            to the logits of these k + 1 to one with respect to ``logits``.
        """
        ids = self.ids[rows]
        outside = logits.scatter(-1, ids, -torch.inf)
        log_outside = outside.logsumexp(-1, keepdim=True)
        log_q = torch.log_softmax(torch.cat([logits.gather(-1, ids), log_outside], -1), -1)

        def to_logits(grads: Tensor) -> Tensor:
            # The tail's logit is a logsumexp, whose derivatives are the shares of its members.
            shares = (outside - log_outside.clamp(min=torch.finfo(logits.dtype).min)).exp()
            return (shares * grads[:, -1:]).scatter(-1, ids, grads[:, :-1])

        return self.log_p[rows].to(logits.dtype), log_q, to_logits
