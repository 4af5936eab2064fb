"""The --metric option."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.errors import UserError, nearest


def check_metrics(names: Sequence[str]) -> list[str]:
    """Return the names of metrics after checking that they exist and that what they need is installed.

    Raises:
        UserError: If not; the message names the nearest one, or the command that installs what is missing.
    """
    from sharpseq.evaluation import METRICS

    for name in names:
        if name not in METRICS:
            raise UserError(f"metric `{name}` is unknown; {nearest(name, METRICS)}")
        try:
            METRICS[name].factory()
        except ImportError as error:
            raise UserError(f"metric `{name}`: {error}") from error
    return list(dict.fromkeys(names))
