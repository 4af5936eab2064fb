"""Methods that are frozen dataclasses: ranges are checked when one is made, schedules read when it is used."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar, get_args

from sharpseq.declarations.declaration import Declaration, Parameter, parameters_of
from sharpseq.declarations.schedules import Schedule

Self = TypeVar("Self", bound="Method")


@dataclass(frozen=True)
class Method:
    """Base of a method with parameters; a subclass is a frozen dataclass with `Setting` fields and a declaration."""

    declaration: ClassVar[Declaration]

    def __post_init__(self) -> None:
        for parameter in parameters_of(type(self)).values():
            check_value(parameter, getattr(self, parameter.name))

    @property
    def is_scheduled(self) -> bool:
        """Whether a parameter, or one of a method inside, changes during training."""
        return any(
            isinstance(value, Schedule) or (isinstance(value, Method) and value.is_scheduled)
            for value in (getattr(self, entry.name) for entry in fields(self))
        )

    def at(self: Self, progress: float) -> Self:
        """Return the method with every schedule replaced by its value.

        Args:
            progress: Share of the updates already made, in [0, 1].
        """
        if not self.is_scheduled:
            return self
        changed: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Schedule):
                changed[entry.name] = value(progress)
            elif isinstance(value, Method):
                changed[entry.name] = value.at(progress)
        return replace(self, **changed)


def at(method: Any, progress: float) -> Any:
    """Return a method at ``progress``; what is no `Method`, such as a function of one's own, as it is."""
    return method.at(progress) if isinstance(method, Method) else method


def takes_schedule(parameter: Parameter) -> bool:
    """Return whether a parameter may be a schedule."""
    return any(isinstance(kind, type) and issubclass(kind, Schedule) for kind in get_args(parameter.hint))


def check_value(parameter: Parameter, value: Any) -> None:
    """Check a value against the range of its parameter, a schedule against it all along.

    Raises:
        TypeError: If a method is expected and the value is none and cannot be called.
        ValueError: If a number is out of range or not finite, or a schedule leaves the range.
    """
    name, setting = parameter.name, parameter.setting
    if setting.methods is not None:
        if not callable(value) and not isinstance(value, Method):
            raise TypeError(f"`{name}` must be a method or callable; got {value!r}")
        return
    words = setting.range or "finite"
    if isinstance(value, Schedule):
        for extreme in value.extremes:
            if not setting.holds(extreme):
                raise ValueError(f"`{name}` must be {words}; its schedule {value} reaches {extreme:g}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and not setting.holds(value):
        raise ValueError(f"`{name}` must be {words}; got {value}")
