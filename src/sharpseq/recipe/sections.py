"""What all sections of a recipe share, and how their mistakes find their place."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MistakeAt(ValueError):
    """A mistake of a section that one key below it is to blame for."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def check_name(name: str, *, at: str | None = None) -> str:
    """Check that a name can be that of a file.

    Raises:
        MistakeAt: If not, at the key ``at`` where one is given.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        message = f"names become files: use letters, digits, '.', '_' and '-' only; got {name!r}"
        raise MistakeAt(message, *([] if at is None else [at]))
    return name
