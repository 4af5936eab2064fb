"""What validation adds up over its batches, so that the figures do not depend on how they were cut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpseq.scoring import SequenceScores

_NAMES = ("loss", "shares", "nll", "tokens", "entropy", "infeasible")


class ValidationSums:
    """Adds up losses and log-probabilities of scored sequences.

    Args:
        device: Where the sums are kept; that of the process, so that they can be joined with those of the others.
    """

    def __init__(self, device: torch.device) -> None:
        self._totals = torch.zeros(len(_NAMES), dtype=torch.float64, device=device)
        self._has_entropy = False

    def add(self, scores: SequenceScores, *, losses: Tensor, shares: Tensor, counted: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            scores: Scores of its sequences, shape (B,) each.
            losses: Loss of each sequence, shape (B,).
            shares: How much each counts under the reduction, shape (B,).
            counted: Which of them count at all, shape (B,); all of them by default.
        """
        if counted is None:
            counted = torch.ones_like(losses, dtype=torch.bool)
        feasible = counted & (scores.log_prob != -torch.inf)
        self._has_entropy |= scores.entropy is not None
        entropy = scores.log_prob.new_zeros(()) if scores.entropy is None else scores.entropy[feasible].sum()
        shares = shares[feasible]
        row = [
            (shares * losses[feasible]).sum(),
            shares.sum(),
            -scores.log_prob[feasible].sum(),
            scores.num_tokens[feasible].sum(),
            entropy,
            (counted & ~feasible).sum(),
        ]
        self._totals += torch.stack([value.to(self._totals) for value in row])

    def metrics(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return what was measured on all processes.

        Returns:
            ``loss`` under the reduction, ``nll`` in nats per token, ``entropy`` in nats per token if the scores had it,
            and the number of targets that the model cannot write (``infeasible``, if any; the rest leaves them out).
        """
        sums = dict(zip(_NAMES, sum_over_processes(self._totals).tolist(), strict=True))
        num_tokens = max(sums["tokens"], 1)
        found = {"loss": sums["loss"] / max(sums["shares"], 1), "nll": sums["nll"] / num_tokens}
        if self._has_entropy:
            found["entropy"] = sums["entropy"] / num_tokens
        if sums["infeasible"]:
            found["infeasible"] = sums["infeasible"]
        return found
