"""The language model of a run: trained once on the training targets, and kept with every model of the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from sharpseq.data import Example, encode, end_token_id
from sharpseq.decoding import NgramModel, train_kneser_ney
from sharpseq.generation import LANGUAGE_MODEL_FILE, load_language_model, save_language_model
from sharpseq.recipe import Recipe
from sharpseq.runs.building import vocab_size_of
from sharpseq.runs.folder import RunFolder


def make_language_model(
    recipe: Recipe,
    folder: RunFolder,
    tokenizer: PreTrainedTokenizerBase,
    examples: Callable[[], Iterable[Example]],
    *,
    say: Callable[[str], None],
) -> None:
    """Train the language model that a recipe asks for, unless that is done.

    Args:
        recipe: The recipe.
        folder: The run's folder, where it is kept.
        tokenizer: The run's tokenizer.
        examples: Returns the training examples.
        say: Called with a message.
    """
    if recipe.language_model is None or (folder.language_model / LANGUAGE_MODEL_FILE).exists():
        return
    model = train_language_model(list(examples()), tokenizer, order=recipe.language_model.order)
    folder.language_model.mkdir(exist_ok=True)
    save_language_model(folder.language_model / LANGUAGE_MODEL_FILE, model, tokenizer)
    counts = ", ".join(f"{len(order.keys):,} of length {length}" for length, order in enumerate(model.orders, start=1))
    say(f"language model: n-grams of the training targets, {counts}")


def train_language_model(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, order: int) -> NgramModel:
    """Train a language model on the targets of examples, in the tokens of a tokenizer."""
    encoded = encode(examples, tokenizer, append_eos_to_target=False)
    return train_kneser_ney(
        (example.labels for example in encoded),
        vocab_size=vocab_size_of(tokenizer),
        eos_token_id=end_token_id(tokenizer),
        order=order,
    )


def language_model_of_run(
    recipe: Recipe, folder: RunFolder, tokenizer: PreTrainedTokenizerBase, *, device: torch.device
) -> NgramModel | None:
    """Return the language model of a run; None if its recipe has none.

    Raises:
        UserError: If it is broken.
    """
    if recipe.language_model is None:
        return None
    file = folder.language_model / LANGUAGE_MODEL_FILE
    return load_language_model(file, tokenizer, vocab_size=vocab_size_of(tokenizer)).to(device)


def add_language_model(folder: RunFolder, model: Path) -> None:
    """Copy the language model of a run, if there is one, into the folder of a model."""
    file = folder.language_model / LANGUAGE_MODEL_FILE
    if file.exists():
        shutil.copyfile(file, model / LANGUAGE_MODEL_FILE)
