"""Numbers that change while a model trains: what any numeric parameter of any method may be.

Progress is the share of a stage's updates that have been made, in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from sharpseq.declarations.declaration import Declaration, Setting, method_table


class Schedule(ABC):
    """A number that depends on the progress of training; a subclass says how."""

    declaration: ClassVar[Declaration]

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``, in [0, 1]."""

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value; by default of 1,001 points."""
        values = [float(self(point / 1000)) for point in range(1001)]
        return min(values), max(values)

    def _not_a_number(self, other: Any) -> Any:
        constant(self)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _not_a_number
    __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = _not_a_number


Number: TypeAlias = float | Schedule
"""What a numeric parameter of a method may be."""


@dataclass(frozen=True)
class Linear(Schedule):
    """From one value to another in a straight line, constant before and after it.

    Example:
        >>> k = Linear(0.0, 4.0, until=0.5)
        >>> k(0.25), k(0.75)
        (2.0, 4.0)
    """

    start: Annotated[float, Setting("Value up to `begin`.")]
    end: Annotated[float, Setting("Value from `until` on.")]
    begin: Annotated[float, Setting("Share of the stage where the change begins.", ge=0, le=1)] = 0.0
    until: Annotated[float, Setting("Share of the stage where the change is complete.", ge=0, le=1)] = 1.0

    declaration = Declaration(
        "linear", "from `start` to `end` in a straight line between the shares `begin` and `until`", "–"
    )

    def __post_init__(self) -> None:
        _check_span(self.begin, self.until)

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``."""
        return self.start + _share(progress, self.begin, self.until) * (self.end - self.start)

    @property
    def extremes(self) -> tuple[float, float]:
        """The smaller and the larger end."""
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class Cosine(Linear):
    """From one value to another along half a cosine, flat at both ends.

    Example:
        >>> round(Cosine(0.0, 1.0)(0.5), 6)
        0.5

    References:
        Loshchilov and Hutter 2017, without restarts.
    """

    declaration = Declaration(
        "cosine", "from `start` to `end` along half a cosine between `begin` and `until`", "Loshchilov and Hutter 2017"
    )

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``."""
        share = (1 - math.cos(math.pi * _share(progress, self.begin, self.until))) / 2
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """From 0 to a value in a straight line, then constant.

    Example:
        >>> WarmUp(2.0, until=0.5)(0.25)
        1.0
    """

    value: Annotated[float, Setting("Value after the warm-up.")]
    until: Annotated[float, Setting("Share of the stage that the warm-up takes.", gt=0, le=1)] = 0.1

    declaration = Declaration("warm_up", "from 0 to `value` in a straight line, complete at the share `until`", "–")

    def __post_init__(self) -> None:
        _check_span(0.0, self.until)

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``."""
        return self.value * _share(progress, 0.0, self.until)

    @property
    def extremes(self) -> tuple[float, float]:
        """0 and the value, in order."""
        return min(0.0, self.value), max(0.0, self.value)


@dataclass(frozen=True)
class Steps(Schedule):
    """Constant between boundaries.

    Example:
        >>> k = Steps([1.0, 2.0, 4.0], at=[0.3, 0.6])
        >>> k(0.0), k(0.3), k(0.9)
        (1.0, 2.0, 4.0)
    """

    values: Annotated[Sequence[float], Setting("The values, one more than boundaries.")]
    at: Annotated[Sequence[float], Setting("Shares of the stage where the next value begins, rising.")]

    declaration = Declaration("steps", "the next of `values` from each share in `at` on", "–")

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "at", tuple(self.at))
        if len(self.values) != len(self.at) + 1:
            raise ValueError(f"`values` must be one more than `at`; got {len(self.values)} and {len(self.at)}")
        if list(self.at) != sorted(self.at) or any(not 0 <= share <= 1 for share in self.at):
            raise ValueError(f"`at` must rise within [0, 1]; got {list(self.at)}")

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``."""
        return self.values[sum(progress >= share for share in self.at)]

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest of the values."""
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class OwnSchedule(Schedule):
    """A function of your own, from progress in [0, 1] to a number; Python only.

    Example:
        >>> OwnSchedule(lambda progress: progress**2)(0.5)
        0.25
    """

    function: Callable[[float], float]

    def __call__(self, progress: float) -> float:
        """Return the value at ``progress``."""
        return self.function(progress)


SCHEDULES: Mapping[str, type[Schedule]] = method_table(Linear, Cosine, WarmUp, Steps)
"""What a recipe may name as ``schedule``."""


def value_at(number: Number, progress: float) -> float:
    """Return a number, or the value of a schedule at ``progress``.

    Example:
        >>> value_at(0.5, 0.9), value_at(WarmUp(1.0, until=0.5), 0.25)
        (0.5, 0.5)
    """
    return number(progress) if isinstance(number, Schedule) else number


def constant(number: Number) -> float:
    """Return a number that does not change.

    Raises:
        TypeError: If it is a schedule: ask the method for `at(progress)` first.
    """
    if isinstance(number, Schedule):
        raise TypeError(f"{number} has a value only at some progress: ask the method for `at(progress)` first")
    return number


def _share(progress: float, begin: float, until: float) -> float:
    if progress >= until:
        return 1.0
    return max((progress - begin) / (until - begin), 0.0)


def _check_span(begin: float, until: float) -> None:
    if not 0 <= begin <= 1 or not 0 <= until <= 1:
        raise ValueError(f"`begin` and `until` must be in [0, 1]; got {begin:g} and {until:g}")
    if begin > until:
        raise ValueError(f"`begin` must not be after `until`; got {begin:g} and {until:g}")
