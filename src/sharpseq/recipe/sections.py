"""What all sections of a recipe share, and how they name methods."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sharpseq.errors import SettingError


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodChoice(Section):
    """A method by name with its parameters, which its own declaration describes; `sharpseq.runs` checks them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @property
    def plain(self) -> dict[str, Any]:
        """The name and the parameters as the recipe gives them."""
        return self.model_dump()


def check_name(name: str, *, at: str | None = None) -> str:
    """Check that a name can be that of a file.

    Raises:
        SettingError: If not, at the key ``at`` where one is given.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        message = f"names become files: use letters, digits, '.', '_' and '-' only; got {name!r}"
        raise SettingError(message, *([] if at is None else [at]))
    return name
