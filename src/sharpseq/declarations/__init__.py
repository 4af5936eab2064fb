"""Declarations: what every method says about itself, and numbers that change during training. No torch in here."""

from sharpseq.declarations.declaration import (
    Declaration,
    Example,
    Parameter,
    Setting,
    method_table,
    parameters_of,
)
from sharpseq.declarations.method import Method, at, check_value
from sharpseq.declarations.plain_settings import (
    build_method,
    build_methods,
    check_settings,
    choose_method,
    plain_settings,
    read_setting,
)
from sharpseq.declarations.schedules import (
    SCHEDULES,
    Cosine,
    Linear,
    Number,
    OwnSchedule,
    Schedule,
    Steps,
    WarmUp,
    constant,
    value_at,
)

__all__ = [
    "SCHEDULES",
    "Cosine",
    "Declaration",
    "Example",
    "Linear",
    "Method",
    "Number",
    "OwnSchedule",
    "Parameter",
    "Schedule",
    "Setting",
    "Steps",
    "WarmUp",
    "at",
    "build_method",
    "build_methods",
    "check_settings",
    "check_value",
    "choose_method",
    "constant",
    "method_table",
    "parameters_of",
    "plain_settings",
    "read_setting",
    "value_at",
]
