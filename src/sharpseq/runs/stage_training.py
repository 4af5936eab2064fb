"""From a stage of a recipe to the trainer that trains it."""

from __future__ import annotations

from typing import Any

from sharpseq.recipe import Recipe, Stage, schema, stages
from sharpseq.runs.building import build_objective, build_refiner
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.refiner_trainer import RefinerTrainer
from sharpseq.training.trainer import SequenceTrainer


def build_trainer(
    recipe: Recipe, stage: Stage, model: Any, arguments: SequenceTrainingArguments, **kwargs: Any
) -> SequenceTrainer:
    """Build the trainer of a stage.

    Args:
        recipe: The recipe.
        stage: The stage.
        model: What it starts from: the model to train, or the one that a refinement network is trained for.
        arguments: Its training arguments.
        kwargs: Passed to the trainer.
    """
    match stage.objective, stage.refiner, recipe.model:
        case stages.GradientMatching() as objective, stages.Refiner() as refiner, schema.LatentNat() as sizes:
            return RefinerTrainer(
                build_refiner(refiner, sizes),
                arguments,
                translation_model=model,
                delta_steps=objective.delta_steps,
                update_probability=objective.update_probability,
                **kwargs,
            )
        case (stages.MaximumLikelihood() | stages.ConvexComposition()) as objective, None, _:
            return SequenceTrainer(model, arguments, objective=build_objective(objective), **kwargs)
    raise ValueError(f"`stage` must have a refiner if and only if it matches gradients; got {stage}")
