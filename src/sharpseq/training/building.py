"""From the sections of a recipe to the things they describe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq import data
from sharpseq.data import Example, LengthFilter, StreamingBatches
from sharpseq.decoding import DECODERS
from sharpseq.errors import UserError, nearest
from sharpseq.evaluation import METRICS
from sharpseq.generation import check_decoder
from sharpseq.models import MODELS
from sharpseq.objectives import Objective, annealed, convex_composition, exponential, maximum_likelihood, power
from sharpseq.recipe import Recipe, Stage, schema
from sharpseq.training.argument_values import checked_value, try_arguments
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.feasibility import CtcFilter
from sharpseq.training.streaming import streaming_arguments


def build_corpus(corpus: schema.Corpus, *, folder: str | None = None) -> list[Example]:
    """Read a corpus; relative paths start at ``folder``.

    Raises:
        UserError: If a file is missing or broken, a package that reads it is, or a setting is impossible.
    """
    return list(stream_corpus(corpus, folder=folder, over_network=False))


def stream_corpus(corpus: schema.Corpus, *, folder: str | None = None, over_network: bool = True) -> Iterator[Example]:
    """Read a corpus as `build_corpus` does, without holding it in memory.

    Args:
        corpus: The corpus; the pronouncing dictionary is read whole all the same.
        folder: Where relative paths start.
        over_network: Fetch a data set of the hub row by row; otherwise download all of it first.

    Yields:
        One example after the other.

    Raises:
        UserError: As for `build_corpus`, when the iterator reaches the fault.
    """
    try:
        yield from _read_corpus(corpus, folder=folder, over_network=over_network)
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error


def _read_corpus(corpus: schema.Corpus, *, folder: str | None, over_network: bool) -> Iterable[Example]:
    def located(path: str) -> str:
        return str(Path(folder or "") / path)

    match corpus:
        case schema.ParallelText():
            references = [located(path) for path in corpus.references] if corpus.references else None
            return data.stream_parallel_text(located(corpus.source), located(corpus.target), references=references)
        case schema.Tsv():
            return data.stream_tsv(
                located(corpus.path), source_column=corpus.source_column, target_column=corpus.target_column
            )
        case schema.Jsonl():
            return data.stream_jsonl(
                located(corpus.path), source=corpus.source, target=corpus.target, references=corpus.references
            )
        case schema.HuggingFaceDataset():
            name = located(corpus.name) if Path(located(corpus.name)).exists() else corpus.name
            return data.stream_hugging_face_dataset(
                name,
                split=corpus.split,
                source=corpus.source,
                target=corpus.target,
                references=corpus.references,
                configuration=corpus.configuration,
                streaming=over_network,
            )
        case schema.PronouncingDictionary():
            return data.pronouncing_dictionary(corpus.split, stress=corpus.stress, subset=corpus.subset)


def build_filter(recipe: Recipe, *, max_tokens: int | None = None) -> LengthFilter:
    """Build the filter of training examples: limits of the recipe, of the model, and of a batch where one is given."""
    limits, model = recipe.data.limits, recipe.model
    ceiling = math.inf if max_tokens is None else max_tokens
    bounds: dict[str, Any] = {
        "max_source_length": min(limits.max_source_length, model.max_source_positions, ceiling),
        "max_target_length": min(limits.max_target_length, model.max_target_positions, ceiling),
        "max_length_ratio": limits.max_length_ratio,
        "min_source_length": 2,
        "min_target_length": 2 if model.type == "autoregressive" else 1,
    }
    if model.type == "ctc":
        return CtcFilter(**bounds, upsampling_factor=model.upsampling_factor)
    return LengthFilter(**bounds)


def build_stream(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, arguments: SequenceTrainingArguments
) -> StreamingBatches:
    """Build the stream of training batches of a recipe with ``data.stream``.

    Examples too long for a batch of their own are left out and reported like those over the limits: one of them, found
    after hours, should not end a run.
    """
    max_tokens = int(arguments.max_tokens or 0)
    return StreamingBatches(
        partial(stream_corpus, recipe.data.train, folder=recipe.data.folder),
        tokenizer,
        append_eos_to_target=recipe.model.type == "autoregressive",
        max_tokens=max_tokens,
        length_filter=build_filter(recipe, max_tokens=max_tokens),
        seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
    )


def build_tokenizer(spec: schema.Tokenizer, examples: Iterable[Example]) -> PreTrainedTokenizerBase:
    """Train a tokenizer on both sides of a corpus, or load the existing one that is named.

    Raises:
        UserError: If a setting does not fit the corpus, or the named tokenizer cannot be loaded.
    """
    if spec.kind == "pretrained":
        return data.load_tokenizer(str(spec.name))
    texts = [text for example in examples for text in (_cased(example.source, spec), example.target)]
    try:
        return data.train_tokenizer(
            texts,
            kind=spec.kind,
            vocab_size=spec.vocab_size,
            symbols=spec.symbols,
            source_lowercase=spec.source_lowercase,
        )
    except ValueError as error:
        raise UserError(f"`tokenizer`: {error}") from error


def _cased(source: str, spec: schema.Tokenizer) -> str:
    return source.lower() if spec.source_lowercase else source


def build_model(spec: schema.Model, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Build a model with fresh weights that fits a tokenizer.

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
    if spec.type == "cmlm" and tokenizer.mask_token_id is None:
        raise UserError(
            "the tokenizer has no mask token, which a CMLM needs; "
            "add one with `tokenizer.add_special_tokens({'mask_token': '<mask>'})` and save it"
        )
    try:
        return family.model(family.config(vocab_size=len(tokenizer), **spec.model_dump(exclude={"type"}), **ids))
    except ValueError as error:
        raise UserError(f"`model`: {error}") from error


def build_objective(spec: schema.Objective) -> Objective:
    """Build an objective."""
    match spec:
        case schema.MaximumLikelihood():
            return maximum_likelihood(label_smoothing=spec.label_smoothing)
        case schema.ConvexComposition(transform="power"):
            return convex_composition(power(spec.k), label_smoothing=spec.label_smoothing)
        case schema.ConvexComposition(anneal_until=float() as until):
            smoothing = spec.label_smoothing
            return annealed(
                lambda k: convex_composition(exponential(k, normalized=True), label_smoothing=smoothing),
                start=0.0,
                end=spec.k,
                until=until,
            )
        case schema.ConvexComposition():
            transform = exponential(spec.k, normalized=spec.normalized)
            return convex_composition(transform, label_smoothing=spec.label_smoothing)


def build_arguments(recipe: Recipe, stage: Stage, folder: Path) -> SequenceTrainingArguments:
    """Build the training arguments of a stage, with defaults that suit a recipe.

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
        if name in ("output_dir", "resume_from_checkpoint", "load_best_model_at_end"):
            raise UserError(f"{place}: `{name}` belongs to the run; leave it out")
        try:
            chosen[name] = checked_value(name, value)
        except ValueError as error:
            raise UserError(f"{place}: {error}") from error
    metric = recipe.validation.metric
    defaults: dict[str, Any] = {
        "seed": recipe.seed,
        "report_to": "none",
        "logging_steps": 50,
        "save_total_limit": 2,
        "disable_tqdm": False,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "inverse_sqrt",
        "reduction": "per_token" if recipe.model.type == "autoregressive" else "per_sequence",
        "metric_for_best_model": "eval_nll" if metric is None else f"eval_{metric}",
        "greater_is_better": metric is not None and METRICS[metric].higher_is_better is not False,
    }
    if recipe.data.stream:
        chosen = streaming_arguments(chosen, place_of=lambda name: recipe.place_of(*path, name))
    settings = {**defaults, **chosen}
    if "eval_strategy" not in settings and "eval_steps" not in settings:
        settings["eval_strategy"] = "epoch"
    if "eval_steps" in settings:
        settings.setdefault("eval_strategy", "steps")
        settings.setdefault("save_steps", settings["eval_steps"])
    settings.setdefault("save_strategy", settings["eval_strategy"])
    settings["save_total_limit"] = max(settings["save_total_limit"] or 0, stage.average_checkpoints) or None
    # The best checkpoint is chosen among those that are both evaluated and saved; transformers checks that they can be.
    has_best = "no" not in (settings["save_strategy"], settings["eval_strategy"]) and not stage.average_checkpoints
    settings["load_best_model_at_end"] = has_best
    place = f"{recipe.place_of(*path)}: stage {stage.name!r}"
    try:
        arguments = SequenceTrainingArguments(output_dir=str(folder), **settings)
        try_arguments(arguments)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())}") from error
    return arguments


def check_model(recipe: Recipe) -> None:
    """Check the sizes of a recipe's model and try its decodings on a stand-in of no size, before there are data.

    Raises:
        UserError: If the model cannot be built, or a decoder or one of its options does not fit it.
    """
    family = MODELS[recipe.model.type]
    sizes = recipe.model.model_dump(exclude={"type"})
    try:
        with torch.device("meta"):
            family.model(family.config(vocab_size=8, **sizes))
    except ValueError as error:
        raise UserError(f"{recipe.place_of('model')}: `model`: {error}") from error
    smallest = {"d_model": 4, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 1, "ffn_dim": 4}
    stand_in = family.model(family.config(vocab_size=8, **{**sizes, **smallest}))
    batch = {"input_ids": torch.tensor([[5, 0]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    for name, decoding in recipe.evaluation.decodings.items():
        options = dict(decoding)
        decoder = options.pop("decoder", None) or family.default_decoder
        try:
            check_decoder(recipe.model.type, decoder, options)
            DECODERS[decoder].decode(stand_in, batch, **options)
        except ValueError as error:
            raise UserError(f"{recipe.place_of('evaluation', 'decodings', name)}: {error}") from error


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
        if metric not in METRICS:
            raise UserError(f"{recipe.place_of(*path)}: metric `{metric}` is unknown; {nearest(metric, METRICS)}")
        try:
            METRICS[metric].factory()
        except ImportError as error:
            raise UserError(f"{recipe.place_of(*path)}: metric `{metric}`: {error}") from error
