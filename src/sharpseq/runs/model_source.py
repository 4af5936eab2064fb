"""Where the models and the tokenizer of a run come from: random weights of a family, or a pretrained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import Example
from sharpseq.generation import load_model
from sharpseq.recipe import Recipe, schema
from sharpseq.runs.building import build_model, build_tokenizer
from sharpseq.runs.pretrained_start import (
    build_pretrained_model,
    build_pretrained_tokenizer,
    continue_pretrained,
    fit_to_tokenizer,
    locate_pretrained,
)


class ModelSource(Protocol):
    """What the stages of a run start from.

    Models to train are transformers models, or a `peft.PeftModel` around one.
    """

    first_weights: str
    """What a first stage starts from, in words."""

    def tokenizer(self, examples: Callable[[], Iterable[Example]]) -> PreTrainedTokenizerBase:
        """Train the tokenizer on a corpus, or load it."""

    def first(self, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Return a model that no stage has trained."""

    def further(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Return the model of a finished stage, to train it further."""

    def trained(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Return the model of a finished stage, to decode with it; adapters are added to its weights."""


class FamilySource:
    """Fresh weights of one of our families, and a tokenizer of their own."""

    first_weights = "random weights"

    def __init__(self, model: schema.Family, tokenizer: schema.Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def tokenizer(self, examples: Callable[[], Iterable[Example]]) -> PreTrainedTokenizerBase:
        """Train the tokenizer on a corpus, or load the one that is named."""
        return build_tokenizer(self._tokenizer, examples())

    def first(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Return a model with random weights."""
        return build_model(self._model, tokenizer)

    def further(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Return the model of a finished stage."""
        return load_model(folder)

    def trained(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Return the model of a finished stage."""
        return load_model(folder)


class PretrainedSource:
    """A pretrained model with its tokenizer, whole or with adapters.

    Args:
        recipe: The recipe.
        model: Its model.
        base: Folder for the converted model of a GGUF file, which is written when it is first needed.
    """

    first_weights = "pretrained weights"

    def __init__(self, recipe: Recipe, model: schema.Pretrained, *, base: Path) -> None:
        self._recipe = recipe
        self._model = model
        self._base = base

    @cached_property
    def _name_or_path(self) -> str:
        return locate_pretrained(self._model, self._base)

    def tokenizer(self, examples: Callable[[], Iterable[Example]]) -> PreTrainedTokenizerBase:
        """Load the tokenizer and attach the prompt; the corpus is not read."""
        return build_pretrained_tokenizer(self._recipe, self._model, self._name_or_path)

    def first(self, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Return the pretrained model, with new adapters if the recipe asks for them."""
        return build_pretrained_model(self._recipe, self._model, self._name_or_path, tokenizer)

    def further(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Return the model of a finished stage, its adapters trainable."""
        return continue_pretrained(self._model, folder, tokenizer)

    def trained(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """Return the model of a finished stage, its adapters added to its weights."""
        model = load_model(folder, dtype=getattr(torch, self._model.dtype), merge=True)
        fit_to_tokenizer(model, tokenizer)
        return model


def source_of(recipe: Recipe, *, base: Path) -> ModelSource:
    """Return where the models of a recipe come from.

    Args:
        recipe: The recipe.
        base: Folder of the run for the converted model of a GGUF file.
    """
    if isinstance(recipe.model, schema.Pretrained):
        return PretrainedSource(recipe, recipe.model, base=base)
    if recipe.tokenizer is None:
        raise ValueError("`recipe` must have a tokenizer, as its model has none of its own")
    return FamilySource(recipe.model, recipe.tokenizer)
