"""The methods that a recipe names, checked against their declarations: what needs torch to be known."""

from __future__ import annotations

from typing import Any

from sharpseq.declarations import build_method, check_settings, choose_method, parameters_of, plain_settings
from sharpseq.errors import SettingError, UserError
from sharpseq.models import MODELS
from sharpseq.recipe import Recipe, schema
from sharpseq.training import LOSSES


def with_methods(recipe: Recipe) -> Recipe:
    """Return a recipe whose objectives and model have all their parameters checked and spelled out.

    Raises:
        UserError: If a method is unknown, or one of its parameters is, or has an impossible value; with its place.
    """
    stages = []
    for position, stage in enumerate(recipe.stages):
        try:
            objective = build_method(LOSSES, stage.objective.plain)
        except SettingError as error:
            raise _user_error(recipe, error.under("stages", position, "objective")) from error
        chosen = type(stage.objective)(**plain_settings(objective))
        stages.append(stage.model_copy(update={"objective": chosen}))
    return recipe.model_copy(update={"stages": stages, "model": _model(recipe)})


def _model(recipe: Recipe) -> schema.Model:
    model = recipe.model
    if isinstance(model, schema.Pretrained):
        return model
    try:
        family, given = choose_method(MODELS, model.model_dump(), tag="type")
        sizes = check_settings(family.config, given)
    except SettingError as error:
        raise _user_error(recipe, error.under("model")) from error
    defaults = {name: parameter.default for name, parameter in parameters_of(family.config).items()}
    return schema.Family(type=model.type, **{**defaults, **sizes})


def build_objective(objective: Any) -> Any:
    """Return what a stage trains on: an objective of scores, or a loss of another kind.

    Args:
        objective: The section of a recipe that `with_methods` has checked.
    """
    return build_method(LOSSES, objective.plain)


def _user_error(recipe: Recipe, error: SettingError) -> UserError:
    dotted = ".".join(map(str, error.path))
    return UserError(f"{recipe.place_of(*error.path)}: {error} (in `{dotted}`)")
