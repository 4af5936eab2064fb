"""The objectives that a study compares, and what they are called in tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.objectives import Exponential, Identity, Power, Transform

Named = tuple[str, Transform]
"""An objective as tables call it, and its transform."""

MAXIMUM_LIKELIHOOD: Named = ("maximum likelihood", Identity())


def named_objectives(k: Sequence[float], *, powers: Sequence[float] = ()) -> list[Named]:
    """Return maximum likelihood, an exponential for each k, and a power for each exponent.

    Example:
        >>> [name for name, _ in named_objectives([1, 0.5], powers=[0.5])]
        ['maximum likelihood', 'exponential, k = 0.5', 'exponential, k = 1', 'power, k = 0.5']
    """
    found = [MAXIMUM_LIKELIHOOD]
    found += [(f"exponential, k = {value:g}", Exponential(value)) for value in sorted(set(k))]
    return found + [(f"power, k = {value:g}", Power(value)) for value in sorted(set(powers), reverse=True)]
