"""From the sections of a recipe to the objects that they describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq import data
from sharpseq.data import Example, LengthFilter, StreamingBatches
from sharpseq.errors import UserError, nearest
from sharpseq.evaluation import METRICS
from sharpseq.generation import fit_target_start
from sharpseq.models import MODELS, LatentRefiner, LatentRefinerConfig, MaskedTargetModel
from sharpseq.objectives.preference import PREFERENCES
from sharpseq.processor_bf16 import bf16_is_slow
from sharpseq.recipe import Recipe, Stage, schema, stages
from sharpseq.runs.corpus_reading import stream_corpus
from sharpseq.runs.model_shape import ModelShape, family_name
from sharpseq.runs.recipe_languages import set_recipe_languages
from sharpseq.training.argument_values import BELONGS_ELSEWHERE, checked_value, try_arguments
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.endless_stream import streaming_arguments
from sharpseq.training.feasibility import CtcFilter, DagFilter
from sharpseq.training.policy import Policy

_ROUND_TRIP_EXAMPLES = 10_000


def build_filter(
    recipe: Recipe, shape: ModelShape, tokenizer: PreTrainedTokenizerBase, *, batch_tokens: int | None = None
) -> LengthFilter:
    """Build the filter of training examples: limits of the recipe, of the model, and of a batch if there is one."""
    limits, model = recipe.data.limits, recipe.model

    def least(*bounds: int | None) -> int | None:
        return min((bound for bound in bounds if bound is not None), default=None)

    # Texts of no words still have EOS, and the code of their language where there is one.
    [blank] = data.encode([Example("", "")], tokenizer, append_eos_to_target=shape.is_autoregressive)
    bounds: dict[str, Any] = {
        "max_source_length": least(limits.max_source_length, shape.max_source_length, batch_tokens),
        "max_target_length": least(limits.max_target_length, shape.max_target_length, batch_tokens),
        "max_row_length": least(shape.max_row_length, batch_tokens) if shape.in_one_row else None,
        "max_length_ratio": limits.max_length_ratio,
        "min_source_length": 2 if shape.in_one_row else 1 + len(blank.input_ids),
        "min_target_length": 1 + len(blank.labels),
    }
    if isinstance(model, schema.Family) and "upsampling_factor" in model.sizes:
        return CtcFilter(**bounds, upsampling_factor=model.sizes["upsampling_factor"])
    if isinstance(model, schema.Family) and "graph_factor" in model.sizes:
        return DagFilter(**bounds, graph_factor=model.sizes["graph_factor"])
    return LengthFilter(**bounds)


def build_stream(
    recipe: Recipe, shape: ModelShape, tokenizer: PreTrainedTokenizerBase, arguments: SequenceTrainingArguments
) -> StreamingBatches:
    """Build the stream of training batches of a recipe with ``data.stream``.

    Examples too long for a batch of their own are left out and reported like those over the limits: such an example,
    found after hours, should not end a run.
    """
    batch_tokens = int(arguments.per_device_train_batch_tokens or 0)
    return StreamingBatches(
        partial(
            stream_corpus,
            recipe.data.train,
            folder=recipe.data.folder,
            unicode_normalization=recipe.unicode_normalization,
        ),
        tokenizer,
        append_eos_to_target=shape.is_autoregressive,
        batch_tokens=batch_tokens,
        in_one_row=shape.in_one_row,
        length_filter=build_filter(recipe, shape, tokenizer, batch_tokens=batch_tokens),
        seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
    )


def build_tokenizer(spec: schema.Tokenizer, examples: Iterable[Example]) -> PreTrainedTokenizerBase:
    """Train a tokenizer on both sides of a corpus, or load the existing one that is named.

    Raises:
        UserError: If a setting does not fit the corpus, or the named tokenizer cannot be loaded.
    """
    if spec.kind == "pretrained":
        tokenizer = data.load_tokenizer(str(spec.name))
        data.set_unicode_normalization(tokenizer, spec.unicode_normalization)
        set_recipe_languages(spec, tokenizer, place=lambda *key: "`tokenizer`")
        return tokenizer
    texts = [text for example in examples for text in (_cased(example.source, spec), example.target)]
    try:
        return data.train_tokenizer(
            texts,
            kind=spec.kind,
            vocab_size=spec.vocab_size,
            symbols=spec.symbols,
            source_lowercase=spec.source_lowercase,
            unicode_normalization=spec.unicode_normalization,
        )
    except ValueError as error:
        raise UserError(f"`tokenizer`: {error}") from error


def check_round_trip(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, examples: Iterable[Example]) -> data.RoundTrip:
    """Encode and decode the first 10,000 targets of a corpus with the tokenizer of a run.

    Raises:
        UserError: If most of them do not come back and the tokenizer was trained here: every score would be wrong. An
            existing tokenizer may be meant so, such as one that knows lower case only.
    """
    found = data.try_round_trip(tokenizer, (example.target for example in islice(examples, _ROUND_TRIP_EXAMPLES)))
    if found.fails_mostly and recipe.tokenizer is not None and recipe.tokenizer.kind != "pretrained":
        place = recipe.place_of("tokenizer", "symbols" if recipe.tokenizer.symbols else "kind")
        raise UserError(
            f"{place}: {found}; no model could write them: "
            + ("let `symbols` match each symbol whole" if recipe.tokenizer.symbols else "choose another tokenizer")
        )
    return found


def _cased(source: str, spec: schema.Tokenizer) -> str:
    return source.lower() if spec.source_lowercase else source


def build_model(spec: schema.Family, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Build a model with random weights that fits a tokenizer.

    Raises:
        UserError: If the tokenizer lacks a token that the family needs.
    """
    family = MODELS[spec.type]
    ids: dict[str, int | None] = {
        "eos_token_id": data.end_token_id(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "mask_token_id": tokenizer.mask_token_id,
    }
    fills_in = isinstance(family.model, type) and issubclass(family.model, MaskedTargetModel)
    if fills_in and tokenizer.mask_token_id is None:
        raise UserError(
            f"the tokenizer has no mask token, which a model of type {spec.type} needs; "
            "add one with `tokenizer.add_special_tokens({'mask_token': '<mask>'})` and save it"
        )
    vocab_size = vocab_size_of(tokenizer)
    try:
        model = family.model(family.config(vocab_size=vocab_size, **spec.sizes, **ids))
    except ValueError as error:
        raise UserError(f"`model`: {error}") from error
    fit_target_start(model, tokenizer)
    return model


def vocab_size_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many token ids a model of a tokenizer knows."""
    # M2M100's tokenizer counts its language codes in no length.
    return max([len(tokenizer), *(code + 1 for code in data.languages_of(tokenizer).values())])


def build_refiner(spec: stages.Refiner, model: schema.Family) -> LatentRefiner:
    """Build a refinement network with random weights for a model.

    Raises:
        ValueError: If the sizes do not fit together.
    """
    sizes = model.sizes
    config = LatentRefinerConfig(
        parameterization=spec.parameterization,
        latent_size=sizes["latent_size"],
        d_model=sizes["d_model"],
        num_layers=spec.num_layers or sizes["decoder_layers"],
        num_attention_heads=spec.num_attention_heads or sizes["num_attention_heads"],
        ffn_dim=spec.ffn_dim or sizes["ffn_dim"],
        dropout=spec.dropout,
    )
    return LatentRefiner(config)


def build_arguments(recipe: Recipe, stage: Stage, folder: Path) -> SequenceTrainingArguments:
    """Build the training arguments of a stage, with defaults that suit a recipe.

    ``bf16`` is left out on a processor that would emulate it, tens of times slower than float32.

    Raises:
        UserError: If an argument is unknown, belongs to the run, or has an impossible value.
    """
    path = ("stages", [other.name for other in recipe.stages].index(stage.name), "training")
    known = {field.name for field in dataclasses.fields(SequenceTrainingArguments) if field.init}
    chosen = {}
    for name, value in stage.training.items():
        place = recipe.place_of(*path, name)
        if name not in known:
            raise UserError(f"{place}: unknown key `{name}` among training arguments; {nearest(name, known)}")
        if name in BELONGS_ELSEWHERE:
            raise UserError(f"{place}: `{name}` {BELONGS_ELSEWHERE[name]}; leave it out")
        try:
            chosen[name] = checked_value(name, value)
        except ValueError as error:
            raise UserError(f"{place}: {error}") from error
    trains_family = isinstance(recipe.model, schema.Family) and not MODELS[recipe.model.type].predicts_eos
    if trains_family and chosen.get("gradient_checkpointing"):
        place = recipe.place_of(*path, "gradient_checkpointing")
        raise UserError(f"{place}: {recipe.model.type} models do not support `gradient_checkpointing`; leave it out")
    if stage.refiner is not None and chosen.get("divide_by_mean_weight"):
        place = recipe.place_of(*path, "divide_by_mean_weight")
        raise UserError(f"{place}: `divide_by_mean_weight` does not go with `gradient_matching`, which has no weights")
    metric_name, greater_is_better = _selection(recipe, stage)
    defaults: dict[str, Any] = {
        "seed": recipe.seed,
        "per_device_eval_batch_tokens": None if "per_device_eval_batch_size" in chosen else 8000,
        "report_to": "none",
        "logging_steps": 50,
        "save_total_limit": 2,
        "disable_tqdm": False,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "inverse_sqrt",
        "reduction": _reduction(recipe, stage),
        "metric_for_best_model": metric_name,
        "greater_is_better": greater_is_better,
    }
    if recipe.data.stream:
        chosen = streaming_arguments(chosen, place_of=lambda name: recipe.place_of(*path, name))
    settings = {**defaults, **chosen}
    if settings.get("bf16") and bf16_is_slow():
        settings["bf16"] = False
    if "eval_strategy" not in settings and "eval_steps" not in settings:
        settings["eval_strategy"] = "epoch"
    if "eval_steps" in settings:
        settings.setdefault("eval_strategy", "steps")
        settings.setdefault("save_steps", settings["eval_steps"])
    settings.setdefault("save_strategy", settings["eval_strategy"])
    settings["save_total_limit"] = max(settings["save_total_limit"] or 0, stage.average_checkpoints) or None
    # The best checkpoint is chosen among those that are both evaluated and saved; transformers checks that they can be.
    # The validation of a stage that forgets says what it retains, and would choose the model that forgot nothing.
    is_chosen = not stage.average_checkpoints and stage.forget is None
    has_best = "no" not in (settings["save_strategy"], settings["eval_strategy"]) and is_chosen
    settings["load_best_model_at_end"] = has_best
    place = f"{recipe.place_of(*path)}: stage {stage.name!r}"
    try:
        arguments = SequenceTrainingArguments(output_dir=str(folder), **settings)
        try_arguments(arguments)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())}") from error
    return arguments


def _reduction(recipe: Recipe, stage: Stage) -> str:
    """Return the usual reduction: by tokens for models that write them, unless losses are of samples or pairs."""
    counts_sequences = stage.objective.name in {Policy.declaration.name, *PREFERENCES}
    return "token_mean" if family_name(recipe.model) == "autoregressive" and not counts_sequences else "sequence_mean"


def _selection(recipe: Recipe, stage: Stage) -> tuple[str, bool]:
    """Return the validation figure that selects the best checkpoint, and whether higher is better."""
    metric = recipe.validation.metric
    if metric is not None:
        return f"eval_{metric}", METRICS[metric].higher_is_better is not False
    if stage.refiner is not None or stage.objective.name in PREFERENCES:
        return "eval_loss", False
    # The reconstruction alone would choose the model with the most information in the latent, at any KL.
    return ("eval_elbo", True) if recipe.model.type == schema.LATENT else ("eval_nll", False)
