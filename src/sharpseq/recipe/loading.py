"""Reading recipes: YAML with line numbers, overrides, and errors that name the line and the mend."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sharpseq.errors import UserError
from sharpseq.recipe.catalogue import find_recipe
from sharpseq.recipe.schema import Recipe

KeyPath = tuple[str | int, ...]


def load_recipe(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe, before anything heavy is imported.

    Args:
        name_or_path: A YAML file, or the name of a recipe that ships with the package, such as ``g2p``.
        overrides: Settings such as ``stages.1.objective.k=3``; values are read as YAML.

    Returns:
        The recipe, with defaults filled in.

    Raises:
        UserError: If the file is missing or broken, a key is unknown or a value impossible; the message names the
            line and the nearest valid key.
    """
    path = find_recipe(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return parse_recipe(text, where=str(path), overrides=overrides)


def parse_recipe(text: str, *, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe's text; ``where`` names it in errors. See `load_recipe`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}{line}: not YAML: {problem}") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    lines = _line_numbers(node)
    for override in overrides:
        _apply(content, override, lines=lines)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(_describe(error, content, where=where, lines=lines)) from error


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML with every default spelt out; loading it gives the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def nearest(name: str, names: Sequence[str]) -> str:
    """Return what to say of an unknown name: the nearest valid one, or all of them.

    Example:
        >>> nearest("lable_smoothing", ["k", "label_smoothing"])
        'did you mean `label_smoothing`?'
    """
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"valid: {', '.join(sorted(names))}"


def _line_numbers(node: yaml.Node | None) -> dict[KeyPath, int | str]:
    """Return where each key and list entry stands, counted from 1."""
    lines: dict[KeyPath, int | str] = {}

    def visit(current: yaml.Node | None, path: KeyPath) -> None:
        if isinstance(current, yaml.MappingNode):
            for key, value in current.value:
                lines[(*path, key.value)] = key.start_mark.line + 1
                visit(value, (*path, key.value))
        elif isinstance(current, yaml.SequenceNode):
            for position, value in enumerate(current.value):
                lines[(*path, position)] = value.start_mark.line + 1
                visit(value, (*path, position))

    visit(node, ())
    return lines


def _apply(content: dict[str, Any], override: str, *, lines: dict[KeyPath, int | str]) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: write it as key=value, such as stages.1.objective.k=3")
    parts: list[str | int] = [int(part) if part.isdigit() else part for part in key.split(".")]
    target: Any = content
    for depth, part in enumerate(parts):
        is_last = depth == len(parts) - 1
        if isinstance(target, list):
            if not isinstance(part, int) or part >= len(target):
                raise UserError(
                    f"--set {override}: {'.'.join(map(str, parts[:depth]))} has entries 0 to "
                    f"{len(target) - 1}; got {part}"
                )
        elif isinstance(target, dict):
            part = str(part)
            if not is_last:
                target.setdefault(part, {})
        else:
            raise UserError(f"--set {override}: {'.'.join(map(str, parts[:depth]))} is a value and has no keys")
        if is_last:
            try:
                target[part] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UserError(f"--set {override}: the value is not YAML") from error
        else:
            target = target[part]
    lines[tuple(parts)] = f"--set {override}"


def _describe(error: ValidationError, content: Any, *, where: str, lines: dict[KeyPath, int | str]) -> str:
    first = error.errors(include_url=False)[0]
    path = _path_in_file(first["loc"], content)
    dotted = ".".join(map(str, path))
    line = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
    place = line if isinstance(line, str) else f"{where}:{line}" if line else where
    kind = first["type"]
    if kind == "extra_forbidden":
        section = _section_at(path[:-1], content)
        names = list(section.model_fields) if section else []
        return f"{place}: unknown key `{dotted}`; {nearest(str(path[-1]), names)}"
    if kind == "missing":
        return f"{place}: `{dotted}` is missing; add it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = first.get("ctx", {})
        discriminator = str(context.get("discriminator", "type")).strip("'")
        expected = context.get("expected_tags", "")
        found = f"got {context['tag']!r}" if "tag" in context else "it is missing"
        return f"{place}: `{dotted}.{discriminator}` must be one of {expected or 'the known types'}; {found}"
    message = first["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {message}" + (f" (in `{dotted}`)" if dotted else "")
    return f"{place}: `{dotted}`: {message[0].lower()}{message[1:]}; got {first['input']!r}"


def _path_in_file(location: tuple[str | int, ...], content: Any) -> KeyPath:
    """Drop the tags of tagged unions, which pydantic puts into its locations and the file does not have."""
    path: list[str | int] = []
    current = content
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(current, dict) and part not in current and not is_last and part in current.values():
            continue
        path.append(part)
        try:
            current = current[part]
        except (KeyError, IndexError, TypeError):
            current = None
    return tuple(path)


def _section_at(path: KeyPath, content: Any) -> type[BaseModel] | None:
    """Return the section of the schema that a path of the file lies in, choosing tagged unions by their tags."""
    annotation: Any = Recipe
    current = content
    for part in path:
        current = current[part]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[str(part)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]
        annotation = _choose(annotation, current)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _choose(annotation: Any, value: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    members = [member for member in typing.get_args(annotation) if member is not type(None)]
    for member in members:
        fields = getattr(member, "model_fields", {})
        for tag in ("type", "name"):
            if tag in fields and isinstance(value, dict) and value.get(tag) in typing.get_args(fields[tag].annotation):
                return member
    return members[0] if len(members) == 1 else annotation
