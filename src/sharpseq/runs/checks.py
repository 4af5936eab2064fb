"""Checks of a recipe that need neither data nor training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sharpseq.data import EncodedExample, EncodedPair
from sharpseq.data.token_budget import example_sizes, side_lengths
from sharpseq.decoding import DECODERS, Batch, LatentModel, train_kneser_ney
from sharpseq.decoding.protocols import SECOND_PROMPT
from sharpseq.errors import UserError
from sharpseq.evaluation import check_metric
from sharpseq.generation import check_decoder, model_folder
from sharpseq.models import MODELS
from sharpseq.objectives import OBJECTIVES
from sharpseq.objectives.preference import PairObjective
from sharpseq.recipe import Recipe, Stage, schema
from sharpseq.runs.building import build_refiner
from sharpseq.runs.model_shape import ModelShape, shape_of_family, shape_of_pretrained
from sharpseq.runs.pretrained_start import check_fit, pretrained_config
from sharpseq.runs.recipe_methods import build_objective
from sharpseq.scoring import IGNORED
from sharpseq.training import (
    AdversarialCompSum,
    AdversarialImitation,
    DirectionAgreement,
    Distillation,
    GradientMatching,
    Loss,
    MiniLlm,
    Policy,
    PreferenceLoss,
    ReferenceMethod,
    ScoreLoss,
    SequenceMatch,
    SequenceTrainingArguments,
    Step,
    Unlearning,
)
from sharpseq.training.distillation import ModelTeacher
from sharpseq.training.loss import PreparesBatches
from sharpseq.training.preference import ModelReference, token_masks_for
from sharpseq.training.unlearning import AnswerPool


def check_model(recipe: Recipe) -> ModelShape:
    """Check the sizes of a recipe's model and try its decodings on a tiny stand-in.

    Returns:
        What data and decoding must know about the model.

    Raises:
        UserError: If the model cannot be built or loaded as the recipe says, or a decoding or one of its options
            does not fit it.
    """
    model = recipe.model
    if isinstance(model, schema.Pretrained):
        config = pretrained_config(recipe, model)
        shape = shape_of_pretrained(check_fit(recipe, model, config))
    else:
        _check_sizes(recipe, model)
        shape = shape_of_family(model)
    _check_objectives(recipe, shape)
    _check_glancing(recipe, shape)
    _check_decodings(recipe, shape)
    return shape


def _check_sizes(recipe: Recipe, model: schema.Family) -> None:
    family = MODELS[model.type]
    try:
        with torch.device("meta"):
            family.model(family.config(vocab_size=8, **model.sizes))
    except ValueError as error:
        raise UserError(f"{recipe.place_of('model')}: `model`: {error}") from error
    for position, stage in enumerate(recipe.stages):
        if stage.refiner is None or model.type != schema.LATENT:
            continue
        try:
            with torch.device("meta"):
                build_refiner(stage.refiner, model)
        except ValueError as error:
            raise UserError(f"{recipe.place_of('stages', position, 'refiner')}: `refiner`: {error}") from error


def _check_objectives(recipe: Recipe, shape: ModelShape) -> None:
    """See that the model gives what each objective reads, on a stand-in and a batch of one word."""
    step = Step(progress=1.0, update=0, seed=0, is_training=True)
    ids = torch.tensor([[5, 0]])
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.tensor([[IGNORED, 0]]) if shape.in_one_row else ids[:, :1],
        "example_ids": torch.tensor([0]),
    }
    if shape.is_autoregressive and not shape.in_one_row:
        batch["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long)
    for position, stage in enumerate(recipe.stages):
        objective = build_objective(stage.objective)
        if isinstance(objective, GradientMatching):
            continue
        try:
            with torch.no_grad():
                loss, model = _loss_of(objective, shape), shape.stand_in()
                given = _pair_of(batch) if isinstance(objective, PairObjective) else batch
                loss(model, loss.prepare(model, given, step) if isinstance(loss, PreparesBatches) else given, step)
        except ValueError as error:
            place = recipe.place_of("stages", position, "objective")
            raise UserError(f"{place}: {stage.objective.name}: {error}") from error


def _check_glancing(recipe: Recipe, shape: ModelShape) -> None:
    """See that stages with glancing train a model that can be shown tokens, with an objective of scores."""
    for position, stage in enumerate(recipe.stages):
        if not stage.training.get("glancing"):
            continue
        place = recipe.place_of("stages", position, "training", "glancing")
        if not getattr(MODELS[shape.family].model, "glances", False):
            names = ", ".join(name for name, family in MODELS.items() if getattr(family.model, "glances", False))
            raise UserError(f"{place}: `glancing` needs a model of type {names}; got {shape.family}")
        if stage.objective.name not in OBJECTIVES:
            raise UserError(f"{place}: `glancing` does not go with the objective {stage.objective.name}; leave it out")


def _pair_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch with each row twice, as a pair of answers."""
    return {name: values if name == "example_ids" else values.repeat(2, 1) for name, values in batch.items()}


def _loss_of(objective: Any, shape: ModelShape) -> Loss:
    if isinstance(objective, PairObjective):
        reference = ModelReference(shape.stand_in())
        return PreferenceLoss(objective, reference, token_masks=token_masks_for(objective, reference.model))
    if isinstance(objective, ReferenceMethod):
        return objective.loss(shape.stand_in())
    if isinstance(objective, Policy):
        return objective.loss(shape.stand_in(), lambda groups: [[0.0] * len(group.outputs) for group in groups])
    if isinstance(objective, Distillation | MiniLlm):
        return objective.loss(ModelTeacher(shape.stand_in()))
    if isinstance(objective, Unlearning):
        other = EncodedExample(0, [5, 0], [5])
        before = ModelTeacher(shape.stand_in()) if objective.reads_reference else None
        return objective.loss(AnswerPool(templates=[[5]], retained=[other]), before)
    if isinstance(objective, AdversarialImitation):
        return objective.loss(lambda batch: torch.zeros(len(batch["labels"])))
    has_loss = isinstance(objective, AdversarialCompSum | SequenceMatch | DirectionAgreement)
    return objective.loss() if has_loss else ScoreLoss(objective)


def _check_decodings(recipe: Recipe, shape: ModelShape) -> None:
    """Try each decoding on a stand-in with all optional parts; then on the models of stages that lack some of them."""
    evaluation = recipe.evaluation
    plain = shape.stand_in()
    has_latent = isinstance(plain, LatentModel)
    full = shape.stand_in(with_refiner=True) if has_latent else plain
    for name, decoding in evaluation.decodings.items():
        place = recipe.place_of("evaluation", "decodings", name)
        try:
            _try_decoding(shape, full, decoding, recipe)
        except ValueError as error:
            raise UserError(f"{place}: {error}") from error
    if recipe.language_model is not None and not any(
        decoder.takes_language_model and isinstance(plain, decoder.model) for decoder in DECODERS.values()
    ):
        place = recipe.place_of("language_model")
        raise UserError(f"{place}: `language_model`: no decoder of {shape.family} asks one; leave it out")
    if evaluation.rescorer is not None:
        _check_rescorer(recipe, shape, evaluation.rescorer)
    for position, stage in enumerate(recipe.stages):
        if not has_latent or stage.refiner is not None:
            continue
        for name, decoding in recipe.decodings_of(stage).items():
            try:
                _try_decoding(shape, plain, decoding, recipe)
            except ValueError as error:
                raise UserError(
                    f"{recipe.place_of('stages', position, 'decodings')}: the decoding `{name}` needs a refinement "
                    f"network, which stage {stage.name!r} does not train; give its `decodings` without it"
                ) from error


def _check_rescorer(recipe: Recipe, shape: ModelShape, rescorer: str) -> None:
    """Check that the rescorer exists and has candidates; its vocabulary is checked later, with the tokenizer."""
    place = recipe.place_of("evaluation", "rescorer")
    decoders = {_decoder(shape, decoding) for decoding in recipe.evaluation.decodings.values()}
    if not any(DECODERS[decoder].takes_rescorer for decoder in decoders):
        names = ", ".join(sorted(decoders))
        raise UserError(f"{place}: `rescorer` has nothing to choose from: no candidates with {names}; leave it out")
    try:
        model_folder(rescorer)
    except UserError as error:
        raise UserError(f"{place}: `rescorer`: {error}") from error


def _decoder(shape: ModelShape, decoding: Mapping[str, Any]) -> str:
    return decoding.get("decoder") or MODELS[shape.family].default_decoder


def _try_decoding(shape: ModelShape, model: PreTrainedModel, decoding: Mapping[str, Any], recipe: Recipe) -> None:
    decoder = _decoder(shape, decoding)
    options = {name: value for name, value in decoding.items() if name != "decoder"}
    check_decoder(model, decoder, options)
    if recipe.evaluation.rescorer is not None and DECODERS[decoder].takes_rescorer:
        options["rescorer"] = _indifferent
    if recipe.language_model is not None and DECODERS[decoder].takes_language_model:
        options["language_model"] = train_kneser_ney([[5]], vocab_size=model.config.vocab_size, eos_token_id=0, order=2)
    batch = {"input_ids": torch.tensor([[5, 0]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    second = dict(zip(SECOND_PROMPT, batch.values(), strict=True))
    DECODERS[decoder].decode(model, {**batch, **second}, **options)


def _indifferent(batch: Batch, sequences: Tensor, num_tokens: Tensor) -> Tensor:
    """Give all candidates the same score, in place of a rescorer."""
    return torch.zeros(len(num_tokens))


def check_metrics(recipe: Recipe) -> None:
    """Check that the metrics of a recipe exist and that what they need is installed.

    Raises:
        UserError: If not.
    """
    places: list[tuple[str | int, ...]] = [
        ("evaluation", "metrics", position) for position in range(len(recipe.evaluation.metrics))
    ]
    named = list(zip(recipe.evaluation.metrics, places, strict=True))
    if recipe.validation.metric is not None:
        named.append((recipe.validation.metric, ("validation", "metric")))
    for metric, path in named:
        try:
            check_metric(metric)
        except UserError as error:
            raise UserError(f"{recipe.place_of(*path)}: {error}") from error


def check_budgets(
    recipe: Recipe,
    stage: Stage,
    arguments: SequenceTrainingArguments,
    *,
    training: Sequence[EncodedExample | EncodedPair],
    validation: Sequence[EncodedExample | EncodedPair],
    in_one_row: bool,
) -> None:
    """Check that the longest example of all fits into a batch of its own.

    Raises:
        UserError: If one does not.
    """
    examples = {"per_device_train_batch_tokens": training, "per_device_eval_batch_tokens": validation}
    for name, found in examples.items():
        budget = getattr(arguments, name)
        if budget is None or not found:
            continue
        longest = int(example_sizes(*side_lengths(found, in_one_row=in_one_row)).max())
        if longest > budget:
            place = recipe.place_of("stages", recipe.stages.index(stage), "training", name)
            raise UserError(
                f"{place}: `{name}` must hold every example and the longest has {longest} tokens; got {budget}; "
                "raise it, or lower `data.limits`"
            )
