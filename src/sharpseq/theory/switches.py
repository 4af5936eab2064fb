"""At which k an optimum changes: a scan for changes, then bisection of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Description = TypeVar("Description", bound=Hashable)


@dataclass(frozen=True)
class Switch(Generic[Description]):
    """A change from one description to another.

    Args:
        k: Middle of the last interval, which contains the change.
        error: Half the width of that interval.
        before: The description just below.
        after: The description just above.
    """

    k: float
    error: float
    before: Description
    after: Description


def find_switches(
    describe: Callable[[float], Description],
    *,
    low: float,
    high: float,
    num_points: int = 24,
    tolerance: float = 1e-4,
) -> list[Switch[Description]]:
    """Return the changes of a description between two k, in increasing order.

    A description that changes and changes back between two neighbouring points of the scan is missed.

    Args:
        describe: Describes the optimum at k, for example by its most probable output.
        low: The first k.
        high: The last k.
        num_points: Number of evenly spaced k in the scan, both ends included; at least 2.
        tolerance: Largest allowed error of each k.

    Raises:
        ValueError: If ``low`` is not below ``high``, ``num_points`` is below 2 or ``tolerance`` is not above 0.

    Example:
        >>> [(round(switch.k, 3), switch.after) for switch in find_switches(lambda k: k * k > 2, low=0, high=3)]
        [(1.414, True)]
    """
    if not low < high:
        raise ValueError(f"`low` must be below `high`; got {low} and {high}")
    if num_points < 2:
        raise ValueError(f"`num_points` must be at least 2; got {num_points}")
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be greater than 0; got {tolerance}")
    scanned = [low + (high - low) * step / (num_points - 1) for step in range(num_points)]
    found = [describe(k) for k in scanned]
    switches: list[Switch[Description]] = []
    for index in range(num_points - 1):
        switches += _between(
            describe, (scanned[index], found[index]), (scanned[index + 1], found[index + 1]), tolerance
        )
    return switches


def _between(
    describe: Callable[[float], Description],
    left: tuple[float, Description],
    right: tuple[float, Description],
    tolerance: float,
) -> list[Switch[Description]]:
    """Return the changes between two described k; a third description in the middle makes two of them."""
    if left[1] == right[1]:
        return []
    middle, error = (left[0] + right[0]) / 2, (right[0] - left[0]) / 2
    if error <= tolerance:
        return [Switch(middle, error, left[1], right[1])]
    halfway = (middle, describe(middle))
    return _between(describe, left, halfway, tolerance) + _between(describe, halfway, right, tolerance)
