"""The --metric option."""

from __future__ import annotations

from collections.abc import Sequence


def check_metrics(names: Sequence[str]) -> list[str]:
    """Return the names of metrics after checking that they exist and that what they need is installed.

    Raises:
        UserError: If not; the message names the nearest one, or the command that installs what is missing.
    """
    from sharpseq.evaluation import check_metric

    for name in names:
        check_metric(name)
    return list(dict.fromkeys(names))
