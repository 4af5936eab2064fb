"""Reading recipes: errors name the line and say how to fix it."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sharpseq.errors import UserError, nearest
from sharpseq.recipe.catalogue import find_recipe
from sharpseq.recipe.overrides import apply_override
from sharpseq.recipe.schema import MODEL_SECTIONS, Recipe
from sharpseq.recipe.yaml_text import KeyPath, Places, read_yaml, read_yaml_text, write_yaml

_SHOWN_CHARACTERS = 60


def read_recipe(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read and override a recipe and check its keys, before anything heavy is imported.

    The parameters of its methods (objectives, model) are checked by `sharpseq.load_recipe`, which needs torch.

    Args:
        name_or_path: A YAML file, or the name of a recipe that ships with the package, such as ``g2p``.
        overrides: Settings such as ``stages.1.training.max_steps=500``; values are read as YAML.

    Returns:
        The recipe, with defaults filled in.

    Raises:
        UserError: If the file is missing or broken, a key is unknown or a value impossible; the message names the
            line and the nearest valid key.
    """
    path = find_recipe(name_or_path)
    return parse_recipe(read_yaml_text(path), where=str(path), overrides=overrides)


def parse_recipe(text: str, *, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe's text; ``where`` names it in errors. See `read_recipe`."""
    content, places = read_yaml(text, where=where)
    if not isinstance(content, dict):
        raise UserError(f"{where}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    for override in overrides:
        apply_override(content, override, places=places)
    model = content.get("model")
    if isinstance(model, dict) and "pretrained" in model:
        model.setdefault("type", "hugging_face")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(_describe(error, content, places=places)) from error
    recipe._places = places
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML with every default written out; loading it gives the same recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def _describe(error: ValidationError, content: Any, *, places: Places) -> str:
    """Describe the first mistake; a misspelt key comes before the missing key that it causes."""
    mistakes = error.errors(include_url=False)
    mistake: Any = next((each for each in mistakes if each["type"] == "extra_forbidden"), mistakes[0])
    kind, context = mistake["type"], mistake.get("ctx", {})
    path = _path_in_file(mistake["loc"], content, names_missing_key=kind == "missing")
    path += getattr(context.get("error"), "path", ())
    dotted = ".".join(map(str, path))
    place = places.of(path)
    if kind == "extra_forbidden":
        section = _section_at(path[:-1], content)
        return f"{place}: unknown key `{dotted}`; {nearest(str(path[-1]), section.model_fields if section else [])}"
    if kind == "missing":
        return f"{place}: `{dotted}` is missing; add it"
    if kind == "union_tag_not_found":
        return f"{place}: `{dotted}.{_tag_key(context)}` is missing; add it"
    if kind == "union_tag_invalid":
        tag = _tag_key(context)
        # Pydantic gives the tags as one text: "'ctc', 'cmlm'".
        known = [name.strip().strip("'") for name in context["expected_tags"].split(",")]
        found = str(context["tag"])
        return f"{places.of((*path, tag))}: `{dotted}.{tag}` must not be {found!r}; {nearest(found, known)}"
    message = mistake["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {message}" + (f" (in `{dotted}`)" if dotted else "")
    got = repr(mistake["input"])
    shown = got if len(got) <= _SHOWN_CHARACTERS else got[:_SHOWN_CHARACTERS] + "…"
    return f"{place}: `{dotted}`: {message[0].lower()}{message[1:]}; got {shown}"


def _tag_key(context: dict[str, Any]) -> str:
    return str(context["discriminator"]).strip("'")


def _path_in_file(location: tuple[str | int, ...], content: Any, *, names_missing_key: bool) -> KeyPath:
    """Drop the parts of pydantic's locations that the file does not have: tags of unions, and the mark of keys."""
    path: list[str | int] = []
    current = content
    for position, part in enumerate(location):
        is_missing_key = names_missing_key and position == len(location) - 1
        is_in_file = is_missing_key or not isinstance(current, dict) or part in current
        if not is_in_file and (part in ("[key]", *MODEL_SECTIONS) or part in current.values()):
            continue
        path.append(part)
        try:
            current = current[part]
        except (KeyError, IndexError, TypeError):
            current = None
    return tuple(path)


def _section_at(path: KeyPath, content: Any) -> type[BaseModel] | None:
    """Return the section of the schema that a path of the file belongs to, resolving tagged unions by their tags."""
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
    members = [_choose(member, value) for member in typing.get_args(annotation) if member is not type(None)]
    for member in members:
        fields = getattr(member, "model_fields", {})
        for tag in ("type", "name"):
            if tag in fields and isinstance(value, dict) and value.get(tag) in typing.get_args(fields[tag].annotation):
                return member
    return members[0] if len(members) == 1 else annotation
