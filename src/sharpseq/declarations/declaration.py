"""What a method says about itself, once and in its own file: name, one line, reference, parameters and their ranges."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

M = TypeVar("M")


@dataclass(frozen=True)
class Example:
    """Settings of a method that the shared test suite tries.

    Args:
        properties: Names of the properties in ``tests/contracts`` that hold with these settings.
        settings: As a recipe gives them; what is left out has its default.
    """

    properties: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """What lists, tables of the documents, recipes and error messages say about a method.

    Args:
        name: In recipes, on the command line and in results.
        summary: What it computes, in one line without a full stop.
        reference: Author and year.
        tier: ``core`` methods are maintained with the package; ``contributed`` ones by whoever needs them. The criteria
            are in CONTRIBUTING.md.
        maturity: ``stable``, or ``experimental`` for one whose definition or defaults may still change.
        examples: What the shared tests try, and which properties hold.
    """

    name: str
    summary: str
    reference: str
    tier: Literal["core", "contributed"] = "core"
    maturity: Literal["stable", "experimental"] = "stable"
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A parameter of a method, inside an ``Annotated`` hint: what it is and which values it may have.

    Args:
        help: One line, with the unit.
        gt: Greater than.
        ge: At least.
        lt: Less than.
        le: At most.
        methods: The table that the value is a method of, such as `sharpseq.objectives.TRANSFORMS`.
        trials: Values of a number that `sharpseq tune` tries unless it is given others; empty for one that stays as it
            is, because another value costs time rather than changing what is best.

    Example:
        >>> Setting("Exponent.", gt=0, le=1).range
        'in (0, 1]'
        >>> Setting("Layers.", ge=1).range
        'at least 1'
    """

    help: str
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    methods: Mapping[str, Any] | None = None
    trials: tuple[float, ...] = ()

    @property
    def range(self) -> str:
        """The range in words; empty where every value is allowed."""
        low = f"({self.gt:g}" if self.gt is not None else None if self.ge is None else f"[{self.ge:g}"
        high = f"{self.lt:g})" if self.lt is not None else None if self.le is None else f"{self.le:g}]"
        if low and high:
            return f"in {low}, {high}"
        if low:
            return ("greater than " if low.startswith("(") else "at least ") + low[1:]
        if high:
            return ("less than " if high.endswith(")") else "at most ") + high[:-1]
        return ""

    def holds(self, value: float) -> bool:
        """Return whether a number is finite and in the range."""
        return (
            math.isfinite(value)
            and (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )


@dataclass(frozen=True)
class Parameter:
    """A parameter as it was declared.

    Args:
        name: Its name.
        hint: Its type.
        setting: What it is, and its range.
        default: Its default; `inspect.Parameter.empty` where it must be given.
    """

    name: str
    hint: Any
    setting: Setting
    default: Any

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty


def parameters_of(method: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Return what of a class or function was declared as a `Setting`, in order.

    Args:
        method: A dataclass, a configuration of transformers, or a function with ``Annotated`` arguments.

    Example:
        >>> def decode(model, *, length_beam: Annotated[int, Setting("Lengths to try.", ge=1)] = 1): ...
        >>> [(p.name, p.default, p.setting.range) for p in parameters_of(decode).values()]
        [('length_beam', 1, 'at least 1')]
    """
    read: Any = method
    return _read_parameters(read)


@cache
def _read_parameters(method: Any) -> Mapping[str, Parameter]:
    if isinstance(method, type):
        return _parameters_of_class(method)
    hints = get_type_hints(method, include_extras=True)
    found: dict[str, Parameter] = {}
    for name, argument in inspect.signature(method).parameters.items():
        _add(found, name, hints.get(name), argument.default)
    return MappingProxyType(found)


def _parameters_of_class(method: type) -> Mapping[str, Parameter]:
    found: dict[str, Parameter] = {}
    for base in reversed(method.__mro__):
        # Classes of other packages declare nothing, and their hints may name what they never import.
        if any("Setting(" in str(hint) for hint in vars(base).get("__annotations__", {}).values()):
            names = {**vars(sys.modules[base.__module__]), **vars(base)}
            for name, hint in inspect.get_annotations(base, eval_str=True, locals=names).items():
                default = getattr(method, name, inspect.Parameter.empty)
                made = getattr(method, "__dataclass_fields__", {}).get(name)
                if made is not None and callable(made.default_factory):
                    default = made.default_factory()
                _add(found, name, hint, default)
    return MappingProxyType(found)


def _add(found: dict[str, Parameter], name: str, hint: Any, default: Any) -> None:
    if get_origin(hint) is not Annotated:
        return
    kind, *extras = get_args(hint)
    for extra in extras:
        if isinstance(extra, Setting):
            found[name] = Parameter(name, kind, extra, default)


def method_table(*methods: M) -> Mapping[str, M]:
    """Return declared methods by name, read-only, in the order in which lists show them."""
    return MappingProxyType({_declaration(method).name: method for method in methods})


def _declaration(method: Any) -> Declaration:
    found: Declaration = method.declaration
    return found
