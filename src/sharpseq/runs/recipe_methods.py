"""The methods that a recipe names, checked against their declarations: what needs torch to be known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpseq.declarations import build_method, check_settings, choose_method, parameters_of, plain_settings
from sharpseq.errors import SettingError, UserError
from sharpseq.models import MODELS
from sharpseq.objectives.preference import PairObjective
from sharpseq.recipe import Recipe, Stage, read_recipe, schema
from sharpseq.recipe.stages import BASE_TEACHER
from sharpseq.training import (
    LOSSES,
    AdversarialImitation,
    Distillation,
    GradientMatching,
    MiniLlm,
    Policy,
    ReferenceMethod,
    Unlearning,
)


def load_recipe(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Args:
        name_or_path: A YAML file, or the name of a recipe that ships with the package, such as ``g2p``.
        overrides: Settings such as ``stages.1.objective.transform.k=3``; values are read as YAML.

    Returns:
        The recipe, with defaults filled in.

    Raises:
        UserError: If the file is missing or broken, a key or method is unknown, or a value impossible; the message
            names the line and the nearest valid key.
    """
    return with_methods(read_recipe(name_or_path, overrides=overrides))


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
        try:
            _check_refiner(stage, objective)
            _check_reference(recipe, stage, objective)
            _check_teacher(recipe, stage, objective)
            _check_preferences(recipe, stage, objective)
            _check_forget(recipe, stage, objective)
        except SettingError as error:
            raise UserError(f"{recipe.place_of('stages', position, *error.path)}: {error}") from error
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
    declared = {name: parameter.default for name, parameter in parameters_of(family.config).items()}
    # As YAML reads them.
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in declared.items()}
    return schema.Family(type=model.type, **{**defaults, **sizes})


def _check_refiner(stage: Stage, objective: object) -> None:
    """Check that a stage has a refinement network if and only if it trains one."""
    name = GradientMatching.declaration.name
    if isinstance(objective, GradientMatching) and stage.refiner is None:
        raise SettingError(
            f"`{name}` trains a `refiner`; add one, such as `refiner: {{parameterization: score}}`", "objective"
        )
    if stage.refiner is not None and not isinstance(objective, GradientMatching):
        message = f"`refiner` goes with `objective: {{name: {name}}}` only; got {stage.objective.name}"
        raise SettingError(message, "refiner")


def _check_reference(recipe: Recipe, stage: Stage, objective: object) -> None:
    """Check that a stage whose objective compares with what it starts from does not start from random weights."""
    has_weights = isinstance(recipe.model, schema.Pretrained) or recipe.start_of(stage) is not None
    if isinstance(objective, ReferenceMethod | AdversarialImitation | PairObjective | Policy) and not has_weights:
        raise SettingError(
            f"`{stage.objective.name}` compares with the weights that the stage starts from, and these are random; put "
            "a stage before it",
            "objective",
        )
    if isinstance(objective, AdversarialImitation) and recipe.data.stream:
        message = f"`{stage.objective.name}` reads demonstrations from memory; leave `data.stream` out"
        raise SettingError(message, "objective")


def _check_teacher(recipe: Recipe, stage: Stage, objective: object) -> None:
    """Check that a stage has a teacher if and only if it learns from one."""
    learns = isinstance(objective, Distillation | MiniLlm)
    if learns and stage.teacher is None:
        message = f"`{stage.objective.name}` learns from a `teacher`; add one, such as `teacher: {{model: runs/…}}`"
        raise SettingError(message, "objective")
    if stage.teacher is None:
        return
    if not learns:
        message = f"`teacher` goes with the objectives distillation and minillm only; got {stage.objective.name}"
        raise SettingError(message, "teacher")
    if stage.teacher.model == BASE_TEACHER and not (isinstance(recipe.model, schema.Pretrained) and recipe.model.lora):
        message = f"`model: {BASE_TEACHER}` is the model without its adapters, and this one has none; add `model.lora`"
        raise SettingError(message, "teacher", "model")


def _check_preferences(recipe: Recipe, stage: Stage, objective: object) -> None:
    """Check that a stage that learns from preferences has some, and can store its reference if it is to."""
    if isinstance(objective, PairObjective) and recipe.data.preferences is None:
        message = (
            f"`{stage.objective.name}` learns from pairs of answers; add `data.preferences` with `train` and "
            "`validation`, such as `{type: preferences, path: pairs.jsonl}`"
        )
        raise SettingError(message, "objective")
    if stage.stored_reference and not isinstance(objective, PairObjective):
        message = f"`stored_reference` goes with objectives of preferences only; got {stage.objective.name}"
        raise SettingError(message, "stored_reference")
    if stage.stored_reference and isinstance(objective, PairObjective) and objective.needs.drift is not None:
        message = (
            f"`stored_reference` must be false: `{stage.objective.name}` compares whole distributions, and only the "
            "scores of answers are stored"
        )
        raise SettingError(message, "stored_reference")


def _check_forget(recipe: Recipe, stage: Stage, objective: object) -> None:
    """Check that a stage has something to forget if and only if it forgets, and weights that know it."""
    name = Unlearning.declaration.name
    if not isinstance(objective, Unlearning):
        if stage.forget is not None:
            message = f"`forget` goes with `objective: {{name: {name}}}` only; got {stage.objective.name}"
            raise SettingError(message, "forget")
        return
    if stage.forget is None:
        raise SettingError(
            f"`{name}` forgets the examples of `forget`; add it, such as `forget: {{data: {{type: tsv, path: …}}}}`",
            "objective",
        )
    if not isinstance(recipe.model, schema.Pretrained) and recipe.start_of(stage) is None:
        raise SettingError(f"`{name}` starts from weights that know something; put a stage before it", "objective")
    if recipe.data.stream and objective.reads_retained:
        raise SettingError(
            f"`retained` draws from the training corpus in memory, and `data.stream` reads it as it goes; set "
            f"`retained: none`, or leave `stream` out; got {objective.retained}",
            "objective",
        )


def build_objective(objective: Any) -> Any:
    """Return what a stage trains on: an objective of scores, or a loss of another kind.

    Args:
        objective: The section of a recipe that `with_methods` has checked.
    """
    return build_method(LOSSES, objective.plain)


def _user_error(recipe: Recipe, error: SettingError) -> UserError:
    dotted, message = ".".join(map(str, error.path)), str(error)
    # In a message that names the key, the key is replaced by its full path.
    named = f"`{error.path[-1]}`"
    said = message.replace(named, f"`{dotted}`", 1) if named in message else f"{message} (in `{dotted}`)"
    return UserError(f"{recipe.place_of(*error.path)}: {said}")
