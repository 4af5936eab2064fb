"""The recipes that ship with the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from sharpseq.errors import UserError, nearest

_PACKAGED = Path(__file__).parent.parent / "recipes"
_CHECKOUT = Path(__file__).parents[3] / "recipes"


@dataclass(frozen=True)
class RecipeEntry:
    """A row of the table of recipes."""

    name: str
    path: Path
    description: str


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes: inside an installed package, or at the top of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def shipped_recipes() -> Iterator[RecipeEntry]:
    """Yield the shipped recipes, sorted by name; names have no suffix but keep folders: ``multi30k/ctc``."""
    for path in sorted(recipes_folder().rglob("*.yaml")):
        description = str((yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("description", ""))
        yield RecipeEntry(path.relative_to(recipes_folder()).with_suffix("").as_posix(), path, description)


def find_recipe(name_or_path: str | Path) -> Path:
    """Return the file of a recipe given by path or by shipped name.

    Raises:
        UserError: If there is none.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = recipes_folder() / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    if path.is_dir():
        raise UserError(f"recipe {path} is a folder; give a YAML file, such as {path / 'recipe.yaml'}")
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"recipe {path}: no such file; check the path")
    names = [entry.name for entry in shipped_recipes()]
    raise UserError(f"recipe {name_or_path}: neither a file nor a shipped recipe; {nearest(str(name_or_path), names)}")
