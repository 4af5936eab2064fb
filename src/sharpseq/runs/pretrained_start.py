"""Recipes that start from a pretrained model: where it is, whether it fits, and its adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sharpseq import data
from sharpseq.data import Prompt
from sharpseq.data.hub_names import expanded_path
from sharpseq.errors import UserError
from sharpseq.generation import fit_target_start, model_folder
from sharpseq.models.adapters import add_lora, is_adapter_folder, load_adapter
from sharpseq.models.pretrained import (
    convert_gguf,
    fit_special_tokens,
    is_causal,
    load_config,
    load_gguf_config,
    load_weights,
)
from sharpseq.recipe import Recipe, schema
from sharpseq.runs.lost_files import check_weights
from sharpseq.runs.recipe_languages import set_recipe_languages
from sharpseq.whole_files import whole_folder


def pretrained_config(recipe: Recipe, model: schema.Pretrained) -> PreTrainedConfig:
    """Load the configuration of a recipe's pretrained model, before there is a run.

    Raises:
        UserError: If there is no model that sharpseq can train, or the recipe's prompt does not fit it.
    """
    place = recipe.place_of("model", "pretrained")
    try:
        config = load_gguf_config(_path(model)) if _is_gguf(model) else load_config(_plain_folder(model.pretrained))
    except UserError as error:
        fix = "; give the path of yours with `--set model.pretrained=…`" if _is_missing(model) else ""
        raise UserError(f"{place}: {error}{fix}") from error
    if config.model_type.startswith("sharpseq-"):
        raise UserError(
            f"{place}: `pretrained` is for models of Hugging Face, and this is a {config.model_type}; train it with "
            "`start_from` in its own recipe"
        )
    if is_causal(config) and model.prompt is None:
        raise UserError(
            f"{recipe.place_of('model')}: a causal language model needs `model.prompt`, such as "
            "{kind: chat, template: '{source}'}"
        )
    if not is_causal(config) and model.prompt is not None:
        raise UserError(
            f"{recipe.place_of('model', 'prompt')}: `prompt` is for causal language models, and this is a "
            f"{config.model_type} with an encoder; leave it out"
        )
    return config


def check_fit(recipe: Recipe, model: schema.Pretrained, config: PreTrainedConfig) -> PreTrainedModel:
    """Check that a recipe's adapters, tokenizer and prompt fit a pretrained model, on a copy of it without weights.

    The tokenizer of a GGUF file is checked later: reading it takes as long as converting the whole file.

    Returns:
        The copy, set to the recipe's languages.

    Raises:
        UserError: If not, or PEFT is missing.
    """
    auto: Any = AutoModelForCausalLM if is_causal(config) else AutoModelForSeq2SeqLM
    with torch.device("meta"):
        stand_in: PreTrainedModel = auto.from_config(config)
    place = recipe.place_of("model", "pretrained")
    if stand_in.get_output_embeddings() is None:
        raise UserError(f"{place}: the model has no output embedding, so it predicts no words; give another one")
    if not _is_gguf(model):
        tokenizer = build_pretrained_tokenizer(recipe, model, _plain_folder(model.pretrained))
        try:
            fit_to_tokenizer(stand_in, tokenizer)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
    with torch.device("meta"):
        _with_lora(recipe, model, stand_in)
    return stand_in


def locate_pretrained(model: schema.Pretrained, base: Path) -> str:
    """Return the plain model folder of the pretrained weights, or their Hub id.

    Args:
        model: The recipe's model.
        base: Folder of the run that a GGUF file is converted into, once.
    """
    if not _is_gguf(model):
        return _plain_folder(model.pretrained)
    if not base.exists():
        with whole_folder(base) as folder:
            convert_gguf(_path(model), folder)
    check_weights(base, fix=f"delete {base} and run the same command, which converts the GGUF file again")
    return str(base.absolute())


def build_pretrained_tokenizer(recipe: Recipe, model: schema.Pretrained, name_or_path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a pretrained model, or the other one that the recipe names, with the recipe's prompt.

    Raises:
        UserError: If there is none, or the prompt or the languages do not fit it.
    """
    chosen = recipe.tokenizer.name if recipe.tokenizer else None
    tokenizer = data.load_tokenizer(chosen or name_or_path, pad_with_end=model.prompt is not None)
    if recipe.tokenizer is not None:
        data.set_unicode_normalization(tokenizer, recipe.tokenizer.unicode_normalization)
    if model.prompt is not None:
        try:
            data.attach_prompt(tokenizer, Prompt(**model.prompt.model_dump()))
        except ValueError as error:
            raise UserError(f"{recipe.place_of('model', 'prompt')}: {error}") from error
        # The trainer of transformers, and other programs that load the model, use the tokenizer's own EOS.
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(data.end_token_id(tokenizer))
    set_recipe_languages(model, tokenizer, place=lambda *key: recipe.place_of("model", *key))
    return tokenizer


def build_pretrained_model(
    recipe: Recipe, model: schema.Pretrained, name_or_path: str, tokenizer: PreTrainedTokenizerBase
) -> Any:
    """Load the pretrained weights, and add new adapters if the recipe asks for them.

    Returns:
        A transformers model, or a `peft.PeftModel`.

    Raises:
        UserError: If the weights cannot be loaded, or the tokenizer or the adapters do not fit them.
    """
    loaded = load_weights(name_or_path, load_config(name_or_path), dtype=_dtype(model))
    fit_to_tokenizer(loaded, tokenizer)
    return _with_lora(recipe, model, loaded)


def continue_pretrained(model: schema.Pretrained, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Load the model of an earlier stage to train it further.

    Returns:
        A transformers model, or a `peft.PeftModel`.
    """
    if is_adapter_folder(folder):
        adapted = load_adapter(folder, trainable=True, dtype=_dtype(model))
        fit_to_tokenizer(adapted.get_base_model(), tokenizer)
        return adapted
    return load_weights(str(folder), load_config(str(folder)), dtype=_dtype(model))


def fit_to_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a model knows all tokens of its tokenizer, and make it pad, begin and end its outputs as that does.

    Raises:
        UserError: If the tokenizer has a token that the model does not know.
    """
    embeddings: Any = model.get_input_embeddings()
    largest = max([*tokenizer.get_vocab().values(), *data.languages_of(tokenizer).values()])
    if largest >= len(embeddings.weight):
        raise UserError(
            f"the tokenizer has the token {tokenizer.convert_ids_to_tokens(largest)!r} with id {largest}, and the "
            f"model knows only {len(embeddings.weight)}; give the model's own tokenizer"
        )
    if is_causal(model.config):
        fit_special_tokens(model, tokenizer, end_token_id=data.end_token_id(tokenizer))
    fit_target_start(model, tokenizer)


def _with_lora(recipe: Recipe, model: schema.Pretrained, loaded: PreTrainedModel) -> Any:
    if model.lora is None:
        return loaded
    try:
        return add_lora(loaded, **model.lora.model_dump())
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{recipe.place_of('model', 'lora')}: `lora`: {reason}") from error


def _plain_folder(name_or_path: str) -> str:
    folder = model_folder(name_or_path)
    if is_adapter_folder(Path(folder)):
        raise UserError(
            f"{folder} is an adapter; merge it first with `sharpseq export {folder} FOLDER --to hugging_face`"
        )
    # Adapters record the path of their model, and may be used from another current folder.
    return str(Path(folder).absolute()) if Path(folder).is_dir() else folder


def _is_missing(model: schema.Pretrained) -> bool:
    return not _path(model).exists()


def _path(model: schema.Pretrained) -> Path:
    return Path(expanded_path(model.pretrained))


def _is_gguf(model: schema.Pretrained) -> bool:
    return model.pretrained.endswith(".gguf")


def _dtype(model: schema.Pretrained) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, model.dtype)
    return dtype
