"""From a stage of a recipe to the trainer that trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sharpseq.data import EncodedExample, StreamingBatches
from sharpseq.objectives import MaximumLikelihood
from sharpseq.objectives.preference import PairObjective
from sharpseq.recipe import Recipe, Stage, schema
from sharpseq.runs.building import build_refiner
from sharpseq.runs.recipe_methods import build_objective
from sharpseq.runs.teacher_choice import load_teacher
from sharpseq.training import (
    AdversarialCompSum,
    AdversarialImitation,
    DirectionAgreement,
    Distillation,
    DistillationTrainer,
    GradientMatching,
    Loss,
    MiniLlm,
    Policy,
    PolicyTrainer,
    PreferenceTrainer,
    ReferenceMethod,
    SequenceMatch,
    SequenceTrainer,
    SequenceTrainingArguments,
    Unlearning,
    UnlearningTrainer,
)
from sharpseq.training.demonstrations import fit_discriminator
from sharpseq.training.preference import StoredReference, store_reference
from sharpseq.training.trainer import score_loss
from sharpseq.training.unlearning import DEFAULT_TEMPLATES


def build_trainer(
    recipe: Recipe,
    stage: Stage,
    model: Any,
    arguments: SequenceTrainingArguments,
    *,
    load_reference: Callable[[], Any],
    retained: Sequence[EncodedExample] = (),
    **kwargs: Any,
) -> SequenceTrainer:
    """Build the trainer of a stage.

    Args:
        recipe: The recipe.
        stage: The stage.
        model: What it starts from: the model to train, or the one that a refinement network is trained for.
        arguments: Its training arguments.
        load_reference: Loads what the stage starts from once more, for objectives that compare with it.
        retained: Of a stage that forgets: the training examples that it may retain.
        kwargs: Passed to the trainer.
    """
    objective = build_objective(stage.objective)
    loss = _loss_of(objective, arguments, load_reference, kwargs["train_dataset"])
    if loss is not None:
        return SequenceTrainer(model, arguments, loss=loss, **kwargs)
    if isinstance(objective, Policy):
        return PolicyTrainer(model, arguments, policy=objective, **kwargs)
    if isinstance(objective, Distillation | MiniLlm):
        if stage.teacher is None:
            raise ValueError(f"`stage` must have a teacher if and only if it learns from one; got {stage}")
        training, validation = kwargs["train_dataset"], kwargs["eval_dataset"]
        teacher = load_teacher(
            stage.teacher,
            kwargs["processing_class"],
            training=None if isinstance(training, StreamingBatches) else training,
            validation=validation,
        )
        return DistillationTrainer(model, arguments, distillation=objective, teacher=teacher, **kwargs)
    if isinstance(objective, PairObjective):
        reference = _stored_reference(model, arguments, **kwargs) if stage.stored_reference else None
        return PreferenceTrainer(model, arguments, objective=objective, reference=reference, **kwargs)
    if isinstance(objective, Unlearning):
        if stage.forget is None:
            raise ValueError(f"`stage` must have something to forget if and only if it forgets; got {stage}")
        return UnlearningTrainer(
            model,
            arguments,
            unlearning=objective,
            templates=stage.forget.templates or DEFAULT_TEMPLATES,
            retained=retained,
            reference=load_reference() if objective.reads_reference else None,
            **kwargs,
        )
    if not isinstance(objective, GradientMatching):
        return SequenceTrainer(model, arguments, objective=objective, **kwargs)
    if stage.refiner is None or not isinstance(recipe.model, schema.Family):
        raise ValueError(f"`stage` must have a refiner if and only if it matches gradients; got {stage}")
    refiner = build_refiner(stage.refiner, recipe.model)
    return SequenceTrainer(refiner, arguments, loss=objective.loss(refiner, model), evaluated_model=model, **kwargs)


def _stored_reference(
    model: Any,
    arguments: SequenceTrainingArguments,
    *,
    processing_class: Any,
    train_dataset: Any,
    eval_dataset: Any,
    **_: Any,
) -> StoredReference:
    """Return the scores of what a stage starts from, computed by the first process unless they are there."""
    path, pairs = Path(str(arguments.output_dir)) / "reference.safetensors", [*train_dataset, *eval_dataset]
    with arguments.main_process_first(local=False):
        stored = StoredReference(path) if path.exists() else store_reference(model, processing_class, pairs, path)
        stored.check(model, processing_class, pairs)
    return stored


def _loss_of(
    objective: Any, arguments: SequenceTrainingArguments, load_reference: Callable[[], Any], training: Any
) -> Loss | None:
    """Return the loss of an objective that needs no more than the model, what it starts from, and its data."""
    if isinstance(objective, AdversarialCompSum):
        return objective.loss(score_loss(MaximumLikelihood(), arguments))
    if isinstance(objective, ReferenceMethod):
        return objective.loss(load_reference(), score_loss(MaximumLikelihood(), arguments))
    if isinstance(objective, SequenceMatch | DirectionAgreement):
        return objective.loss()
    if isinstance(objective, AdversarialImitation):
        demonstrations = training[: objective.num_demonstrations]
        return objective.loss(
            fit_discriminator(load_reference(), demonstrations, seed=f"{arguments.seed} discriminator")
        )
    return None
