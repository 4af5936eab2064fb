"""The data of a stage that forgets: what is to be forgotten, and what of the training corpus may be retained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, Example, encode
from sharpseq.errors import UserError
from sharpseq.recipe import Recipe, Stage
from sharpseq.runs.building import build_filter
from sharpseq.runs.corpus_reading import build_corpus
from sharpseq.runs.model_shape import ModelShape
from sharpseq.runs.recipe_methods import build_objective
from sharpseq.training.unlearning import retained_examples


def check_forget(recipe: Recipe, stage: Stage) -> None:
    """Check that what a stage is to forget can be read.

    Raises:
        UserError: If the corpus is missing, broken or empty.
    """
    if stage.forget is not None:
        _corpus(recipe, stage)


def _corpus(recipe: Recipe, stage: Stage) -> list[Example]:
    place = recipe.place_of("stages", recipe.stages.index(stage), "forget")
    if stage.forget is None:
        raise ValueError(f"`stage` must have something to forget; got {stage}")
    form = recipe.unicode_normalization
    corpus = build_corpus(stage.forget.data, folder=recipe.data.folder, unicode_normalization=form)
    if not corpus:
        raise UserError(f"{place}: there are no examples to forget; give data with at least one line")
    return corpus


def encoded_forget(
    recipe: Recipe, stage: Stage, shape: ModelShape, tokenizer: PreTrainedTokenizerBase, *, say: Callable[[str], None]
) -> list[EncodedExample]:
    """Return the examples that a stage is to forget, within the limits of the recipe.

    Raises:
        UserError: If none is within the limits.
    """
    encoded = encode(_corpus(recipe, stage), tokenizer, append_eos_to_target=shape.is_autoregressive)
    kept, report = build_filter(recipe, shape, tokenizer).apply(encoded)
    say(f"stage {stage.name}: to forget: {report}")
    if not kept:
        raise UserError(f"stage {stage.name}: no example to forget is left; loosen `data.limits`")
    return kept


def retained_beside(
    forget: Any, stage: Stage, training: Callable[[], Sequence[EncodedExample]], *, say: Callable[[str], None]
) -> list[EncodedExample]:
    """Return the training examples that a stage may retain: all whose prompt is not to be forgotten.

    Args:
        forget: The examples to forget.
        stage: The stage; one that reads no retained examples gets none.
        training: Returns the training examples.
        say: Called with what was left out.
    """
    if stage.forget is None or not build_objective(stage.objective).reads_retained:
        return []
    examples = training()
    kept = retained_examples(examples, forget)
    say(f"stage {stage.name}: {len(kept):,} training examples to retain, {len(examples) - len(kept):,} left out")
    return kept
