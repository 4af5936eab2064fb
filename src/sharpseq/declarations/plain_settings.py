"""Methods as recipes and command lines write them: a name, or a mapping with the name and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sharpseq.declarations.declaration import Parameter, parameters_of
from sharpseq.declarations.method import Method, check_value, takes_schedule
from sharpseq.declarations.schedules import SCHEDULES, Schedule
from sharpseq.errors import SettingError, nearest

_SHOWN_CHARACTERS = 60


def build_method(table: Mapping[str, Any], settings: Any, *, tag: str = "name") -> Any:
    """Make a method from its plain settings.

    Args:
        table: Methods by name.
        settings: A mapping with the method's name under ``tag`` and its parameters; or the name alone.
        tag: The key that names the method.

    Raises:
        SettingError: If a key is unknown or missing, or a value has another type or is out of range; it has the path.

    Example:
        >>> from sharpseq.objectives import OBJECTIVES
        >>> build_method(OBJECTIVES, {"name": "maximum_likelihood", "label_smoothing": 0.1})
        MaximumLikelihood(label_smoothing=0.1)
        >>> build_method(OBJECTIVES, {"name": "maximum_likelihod"})
        Traceback (most recent call last):
            ...
        sharpseq.errors.SettingError: `name` must not be 'maximum_likelihod'; did you mean `maximum_likelihood`?
    """
    method, given = choose_method(table, settings, tag=tag)
    values = check_settings(method, given)
    try:
        return method(**values)
    except (ValueError, TypeError) as error:
        raise _blame(error, values) from error


def build_methods(table: Mapping[str, Any], settings: Any) -> tuple[Any, ...]:
    """Make methods from a list of plain settings, or from those of a single one; methods in it stay as they are.

    Raises:
        SettingError: As `build_method` does; where there is a list, its path begins with the position.

    Example:
        >>> from sharpseq.decoding.processors import PROCESSORS
        >>> build_methods(PROCESSORS, ["em_inf", {"name": "bregman_top_k", "k": 5}])[1].k
        5
    """
    if isinstance(settings, str | Mapping | Method):
        settings = [settings]
    elif not isinstance(settings, Sequence):
        raise SettingError(f"write a name, a mapping with `name`, or a list of these; got {_shown(settings)}")
    made = []
    for position, each in enumerate(settings):
        try:
            made.append(each if isinstance(each, Method) else build_method(table, each))
        except SettingError as error:
            raise error.under(position) from error
    return tuple(made)


def choose_method(table: Mapping[str, Any], settings: Any, *, tag: str = "name") -> tuple[Any, dict[str, Any]]:
    """Return the method that plain settings name, and the settings without the name.

    Raises:
        SettingError: If no method is named, or one that is not in the table.
    """
    if isinstance(settings, str):
        settings = {tag: settings}
    if not isinstance(settings, Mapping):
        raise SettingError(f"write a name, or a mapping with `{tag}`; got {_shown(settings)}")
    if tag not in settings:
        raise SettingError(f"`{tag}` is missing; add it ({nearest('', table)})", tag)
    name = settings[tag]
    if not isinstance(name, str) or name not in table:
        raise SettingError(f"`{tag}` must not be {name!r}; {nearest(str(name), table)}", tag)
    return table[name], {key: value for key, value in settings.items() if key != tag}


def check_settings(method: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a method in their types, nested methods and schedules made.

    Raises:
        SettingError: If a key is unknown or missing, or a value has another type or is out of range.
    """
    parameters = parameters_of(method)
    for key in given:
        if key not in parameters:
            advice = nearest(str(key), parameters) if parameters else "there are none"
            raise SettingError(f"unknown key `{key}`; {advice}", key)
    values = {}
    for name, parameter in parameters.items():
        if name in given:
            values[name] = read_setting(parameter, given[name])
        elif parameter.is_required:
            raise SettingError(f"`{name}` is missing; add it", name)
    return values


def read_setting(parameter: Parameter, value: Any) -> Any:
    """Return the value of one parameter in its type.

    Raises:
        SettingError: If it has another type or is out of range.
    """
    name = parameter.name
    try:
        if parameter.setting.methods is not None:
            return build_method(parameter.setting.methods, value)
        if isinstance(value, Mapping) and takes_schedule(parameter):
            checked: Any = build_method(SCHEDULES, value, tag="schedule")
        else:
            checked = _in_type(parameter, value)
        check_value(parameter, checked)
    except SettingError as error:
        raise error.under(name) from error
    except ValueError as error:
        raise SettingError(str(error), name) from error
    return checked


def plain_settings(method: Any, *, tag: str = "name") -> dict[str, Any]:
    """Return a method as a mapping that `build_method` reads, every default spelled out.

    Example:
        >>> from sharpseq.declarations import Linear
        >>> plain_settings(Linear(0.0, 4.0, until=0.5), tag="schedule")
        {'schedule': 'linear', 'start': 0.0, 'end': 4.0, 'begin': 0.0, 'until': 0.5}
    """
    written = {tag: method.declaration.name}
    for name, parameter in parameters_of(type(method)).items():
        value = getattr(method, name)
        if isinstance(value, Schedule):
            value = plain_settings(value, tag="schedule")
        elif parameter.setting.methods is not None:
            value = plain_settings(value)
        written[name] = list(value) if isinstance(value, tuple) else value
    return written


def _in_type(parameter: Parameter, value: Any) -> Any:
    from pydantic import ValidationError

    try:
        checked = _adapter(float if takes_schedule(parameter) else parameter.hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"`{parameter.name}`: {first[0].lower()}{first[1:]}; got {_shown(value)}") from error
    if isinstance(checked, float) and not math.isfinite(checked):
        raise ValueError(f"`{parameter.name}` must be {parameter.setting.range or 'finite'}; got {value!r}")
    return checked


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


def _blame(error: Exception, values: Mapping[str, Any]) -> SettingError:
    """Return an error of a method's own checks at the parameter that its message begins with."""
    named = str(error).partition("`")[2].partition("`")[0]
    return SettingError(str(error), *([named] if named in values else []))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
