"""Overrides: ``stages.1.training.max_steps=500`` on a command line changes one value of a recipe."""

from __future__ import annotations

from typing import Any

from sharpseq.errors import UserError
from sharpseq.recipe.yaml_text import KeyPath, Places, read_value


def apply_override(content: dict[str, Any], override: str, *, places: Places) -> None:
    """Change one value of a recipe's content, and record the override as its place.

    Entries of a list are named by their position from 0, or by their ``name`` where they have one; keys that are
    missing are added.

    Raises:
        UserError: If it is not written as KEY=VALUE, or its path leads to an entry that does not exist.
    """
    said = f"--set {override}"
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UserError(f"{said}: write it as KEY=VALUE, such as stages.1.training.max_steps=500")
    try:
        value = read_value(text)
    except ValueError as error:
        raise UserError(f"{said}: {error}") from error
    target: Any = content
    path: KeyPath = ()
    for number, part in enumerate(parts, start=1):
        step = _step_into(target, part, at=path, said=said)
        path = (*path, step)
        keys = tuple(map(str, path))
        if number == len(parts):
            target[step] = value
            for inner in [other for other in places.lines if other[: len(keys)] == keys]:
                del places.lines[inner]
            places.lines[keys] = said
        elif isinstance(target, dict) and target.get(step) is None:
            target[step] = {}
            places.lines[keys] = said
        target = target[step]


def _step_into(target: Any, part: str, *, at: KeyPath, said: str) -> str | int:
    """Return the key or position that a part of a path means."""
    here = ".".join(map(str, at))
    if isinstance(target, dict):
        return part
    if not isinstance(target, list):
        raise UserError(f"{said}: `{here}` is a value and has no keys")
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in target]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(target):
        return int(part)
    named = [str(name) for name in names if name is not None]
    by_name = f", or {', '.join(named)}" if named else ""
    raise UserError(f"{said}: the entries of `{here}` are 0 to {len(target) - 1}{by_name}; got {part}")
