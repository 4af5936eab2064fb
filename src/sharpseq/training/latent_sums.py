"""What is told of a latent variable in training: the bound, its two parts, and which dimensions are in use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpseq.scoring import SequenceScores

ACTIVE_NATS = 0.01
"""A dimension is active if its KL divergence is more than this, in nats a token; after Burda et al. 2016."""


class LatentSums:
    """Adds up reconstruction and KL of scored sequences, exactly over micro-batches and processes."""

    def __init__(self) -> None:
        self._totals: Tensor | None = None

    def add(self, scores: SequenceScores) -> None:
        """Add a batch; scores without a latent add nothing."""
        if scores.latent_kl is None:
            return
        parts = [scores.num_tokens.sum()[None], -scores.log_prob.sum()[None], scores.latent_kl.sum((0, 1))]
        row = torch.cat([part.detach().double() for part in parts])
        self._totals = row if self._totals is None else self._totals + row

    def pop(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the figures since the last call, in nats per token, and start afresh; empty where nothing was added.

        Returns:
            ``reconstruction``, −log p(y|z, x); ``kl``; ``elbo``, −(reconstruction + kl); ``kl_dim_0`` and so on; and
            ``active_units``, the number of dimensions with more than `ACTIVE_NATS`.
        """
        if self._totals is None:
            return {}
        num_tokens, reconstruction, *dimensions = sum_over_processes(self._totals).tolist()
        self._totals = None
        per_token = [nats / max(num_tokens, 1) for nats in dimensions]
        reconstruction /= max(num_tokens, 1)
        return {
            "reconstruction": reconstruction,
            "kl": sum(per_token),
            "elbo": -(reconstruction + sum(per_token)),
            "active_units": sum(nats > ACTIVE_NATS for nats in per_token),
            **{f"kl_dim_{index}": nats for index, nats in enumerate(per_token)},
        }
