"""Training arguments that are numbers or schedules, declared where they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sharpseq.declarations import Number, Parameter, Schedule, check_value, plain_settings, read_setting


def argument_number(name: str, value: Any, parameter: Parameter) -> Number:
    """Return a checked training argument that may be a number, a schedule, or a mapping that describes one.

    Args:
        name: Name of the argument, for messages.
        value: Its value.
        parameter: The parameter that it becomes.

    Raises:
        ValueError: If it is none of these or out of range.
    """
    named = replace(parameter, name=name)
    if isinstance(value, Schedule):
        check_value(named, value)
        return value
    checked: Number = read_setting(named, value)
    return checked


def plain_argument(value: Any) -> Any:
    """Return a training argument as JSON can hold it: schedules as mappings, the user's own functions by name."""
    if not callable(value):
        return value
    return plain_settings(value, tag="schedule") if hasattr(value, "declaration") else repr(value)
