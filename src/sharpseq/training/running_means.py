"""Figures that add up over micro-batches and processes, so that they do not depend on how the data were split."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sharpseq.errors import UserError
from sharpseq.training.loss import LossOutput, Statistic

COUNTS = ("infeasible", "without_target")
"""Sequences that are counted in validation: those that the model cannot write, those without a token to be scored."""

_NUM_TOKENS = "num_tokens"


class RunningMeans:
    """Adds up named statistics; every process must add the same names."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._sums: set[str] = set()

    def add(self, statistics: Mapping[str, Statistic], *, counted: Tensor | None = None) -> None:
        """Add the statistics of a batch.

        Args:
            statistics: By name.
            counted: Which sequences count, shape (B,) bool; all by default.
        """
        for name, statistic in statistics.items():
            counts = statistic.counts
            if counts is None:
                self._sums.add(name)
                counts = torch.ones_like(statistic.values)
            pair = torch.stack([part.detach().double() for part in (statistic.values, counts)])
            row = (pair if counted is None else pair[:, counted]).sum(1)
            self._totals[name] = self._totals[name] + row if name in self._totals else row

    def pop(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means since the last call over all processes, and reset them; empty if nothing was added."""
        if not self._totals:
            return {}
        names = list(self._totals)
        rows = sum_over_processes(torch.stack(list(self._totals.values())).flatten()).view(-1, 2).tolist()
        sums = self._sums
        self._totals, self._sums = {}, set()
        return {
            name: total if name in sums else total / (count or 1.0)
            for name, (total, count) in zip(names, rows, strict=True)
        }


def validation_statistics(output: LossOutput, *, shares: Tensor) -> dict[str, Statistic]:
    """Return the statistics of a batch in validation: its own, ``loss`` under the reduction, and the `COUNTS`.

    Args:
        output: The loss's output for the batch.
        shares: How much each sequence counts under the reduction, shape (B,).
    """
    possible = output.is_possible
    if possible is None:
        possible = torch.ones_like(output.losses, dtype=torch.bool)
    total = output.losses
    for term in output.terms.values():
        if term.reduction is None:
            total = total + term.weight * term.values
    found = {"loss": Statistic(shares * total.double(), shares), **output.statistics}
    # −∞ times 0 is not 0, so values that are left out are set to 0, not multiplied by 0.
    left = {
        name: Statistic(
            each.values.masked_fill(~possible, 0),
            None if each.counts is None else each.counts.masked_fill(~possible, 0),
        )
        for name, each in found.items()
    }
    counts = {"infeasible": ~possible, "without_target": output.num_tokens == 0}
    return {
        **left,
        **{name: Statistic(which.double(), None) for name, which in counts.items()},
        _NUM_TOKENS: Statistic(output.num_tokens.double(), None),
    }


def check_any_target(found: dict[str, float]) -> None:
    """Take the number of target tokens out of the figures of a validation, and check that there were some.

    Raises:
        UserError: If there were none: the loss would be 0, whatever the model.
    """
    if found.pop(_NUM_TOKENS, 1.0) == 0:
        raise UserError(
            "no validation example has a target token to be scored on; give examples with targets, and raise the "
            "maximum length if prompts alone fill it"
        )
