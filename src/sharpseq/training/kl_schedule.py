"""How much the KL divergence of a latent costs, and when: warm-up, free bits and an annealed budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class KlSchedule:
    r"""The penalty of a latent variable over a stage.

    At the share s of the stage a sequence of T tokens pays
    :math:`w(s)\,\frac1T \sum_t \max\big(b(s), \sum_d \max(\lambda, \mathrm{KL}_{td})\big)` nats per token. With
    weight 1 and neither budget nor free bits that is its KL divergence per token, and maximum likelihood plus the
    penalty is the negative evidence lower bound.

    Args:
        weight: Weight of the KL after the warm-up, at least 0.
        warmup: Share of the stage, in [0, 1], over which the weight rises linearly from 0.
        free_bits: λ, in nats: what every dimension at every position may have at no gain from having less.
        budget: b in nats: what every position may have, at the start of the stage.
        budget_anneal_from: Share of the stage, in [0, 1], up to which the budget stays; then it falls linearly to 0 at
            the end. With 1 it never falls.

    Example:
        >>> schedule = KlSchedule(warmup=0.5, budget=1.0)
        >>> schedule.weight_at(0.25), schedule.budget_at(0.25), schedule.budget_at(0.75)
        (0.5, 1.0, 0.5)

    References:
        Bowman et al. 2016 (warm-up); Kingma et al. 2016, section 4.2 (free bits); Shu et al. 2020 (budget).
    """

    weight: float = 1.0
    warmup: float = 0.0
    free_bits: float = 0.0
    budget: float = 0.0
    budget_anneal_from: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("weight", self.weight), ("free_bits", self.free_bits), ("budget", self.budget)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"`{_ARGUMENTS[name]}` must be finite and at least 0; got {value}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"`{_ARGUMENTS['warmup']}` must be in [0, 1]; got {self.warmup}")
        if not 0 <= self.budget_anneal_from <= 1:
            raise ValueError(f"`{_ARGUMENTS['budget_anneal_from']}` must be in [0, 1]; got {self.budget_anneal_from}")

    @classmethod
    def of(cls, arguments: Any) -> KlSchedule:
        """Return the schedule of training arguments."""
        return cls(**{field: getattr(arguments, argument) for field, argument in _ARGUMENTS.items()})

    def weight_at(self, progress: float) -> float:
        """Return the weight of the KL at a share of the stage."""
        return self.weight * min(progress / self.warmup, 1.0) if self.warmup else self.weight

    def budget_at(self, progress: float) -> float:
        """Return the budget of a position in nats at a share of the stage."""
        if progress <= self.budget_anneal_from:
            return self.budget
        return self.budget * (1 - progress) / (1 - self.budget_anneal_from)

    def penalty(self, latent_kl: Tensor, num_tokens: Tensor, *, progress: float) -> Tensor:
        """Return what each sequence pays, in nats per token, shape (B,).

        Args:
            latent_kl: KL of every position and dimension in nats, shape (B, T, D).
            num_tokens: Lengths in tokens, shape (B,); what lies behind them costs nothing.
            progress: Share of the stage that is done, in [0, 1].
        """
        real = torch.arange(latent_kl.shape[1], device=latent_kl.device) < num_tokens[:, None]
        positions = latent_kl.clamp(min=self.free_bits).sum(-1).clamp(min=self.budget_at(progress))
        total = positions.masked_fill(~real, 0.0).sum(1)
        return self.weight_at(progress) * total / num_tokens.clamp(min=1)


_ARGUMENTS = {
    "weight": "kl_weight",
    "warmup": "kl_warmup",
    "free_bits": "free_bits",
    "budget": "kl_budget",
    "budget_anneal_from": "kl_budget_anneal_from",
}
