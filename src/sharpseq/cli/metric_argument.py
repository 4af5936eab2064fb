"""The --metric option."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.errors import UserError


def check_metrics(names: Sequence[str]) -> list[str]:
    """Return the names of metrics after checking that they exist.

    Raises:
        UserError: If one does not; the message names the nearest.
    """
    from sharpseq.evaluation import METRICS
    from sharpseq.recipe import nearest

    for name in names:
        if name not in METRICS:
            raise UserError(f"metric `{name}` is unknown; {nearest(name, list(METRICS))}")
    return list(names)
