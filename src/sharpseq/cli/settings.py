"""Settings of a decoder given as KEY=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpseq.errors import UserError


def parse_settings(settings: Sequence[str], *, where: str = "--set") -> dict[str, Any]:
    """Return settings by name, values read as YAML.

    Args:
        settings: The settings.
        where: The option or argument that they are given in, for the message.

    Raises:
        UserError: If one is not written as KEY=VALUE.

    Example:
        >>> parse_settings(["num_beams=5", "length_penalty=1.2"])
        {'num_beams': 5, 'length_penalty': 1.2}
    """
    from sharpseq.recipe import read_value

    parsed = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise UserError(f"{where} {setting}: write it as KEY=VALUE, such as num_beams=5")
        try:
            parsed[name.strip().replace("-", "_")] = read_value(value)
        except ValueError as error:
            raise UserError(f"{where} {setting}: {error}") from error
    return parsed
