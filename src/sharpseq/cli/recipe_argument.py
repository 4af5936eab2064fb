"""The RECIPE argument."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.recipe import Recipe

_MOST_BYTES = 256 * 1024
"""Bytes that a recipe may have; shipped ones have about three thousand."""


def load_recipe_argument(name: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, after seeing that its file can be one: YAML takes minutes and gigabytes for what is none.

    Raises:
        UserError: If it is too large or too deeply nested for a recipe, or as for `sharpseq.recipe.read_recipe`.
    """
    from sharpseq.recipe import read_recipe

    if os.path.isfile(name) and os.path.getsize(name) > _MOST_BYTES:
        size = os.path.getsize(name)
        raise UserError(f"{os.fspath(name)} has {size:,} bytes, which is too much for a recipe; give its YAML file")
    try:
        return read_recipe(os.fspath(name), overrides=overrides)
    except RecursionError:
        raise UserError(f"{os.fspath(name)} is nested too deeply for a recipe; give its YAML file") from None
