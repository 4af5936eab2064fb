"""The preferences of a recipe, as its model reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, EncodedPair, FilterReport, LengthFilter, Preference, encode_pairs
from sharpseq.errors import UserError
from sharpseq.recipe import Recipe
from sharpseq.runs.building import build_filter
from sharpseq.runs.corpus_reading import read_pairs
from sharpseq.runs.model_shape import ModelShape

Say = Callable[[str], None]


def read_preferences_of(recipe: Recipe) -> dict[str, list[Preference]]:
    """Read ``data.preferences``: ``train`` and ``validation``; nothing where a recipe has none.

    Raises:
        UserError: If a file is missing or broken, or has no preferences.
    """
    given, form = recipe.data.preferences, recipe.unicode_normalization
    if given is None:
        return {}
    found = {}
    for name, corpus in {"train": given.train, "validation": given.validation}.items():
        try:
            found[name] = read_pairs(corpus, folder=recipe.data.folder, unicode_normalization=form)
        except UserError as error:
            raise UserError(f"{recipe.place_of('data', 'preferences', name)}: {error}") from error
    return found


def encoded_preferences(
    recipe: Recipe,
    shape: ModelShape,
    tokenizer: PreTrainedTokenizerBase,
    preferences: dict[str, list[Preference]],
    *,
    say: Say,
) -> dict[str, list[EncodedPair]]:
    """Encode preferences and leave out what the model cannot learn; of validation, what it has no positions for.

    Args:
        recipe: The recipe.
        shape: What the model takes.
        tokenizer: Its tokenizer.
        preferences: From `read_preferences_of`.
        say: Called with a line on what is left out.

    Raises:
        UserError: If nothing is left, or the tokenizer does not tell two answers apart.
    """
    filters = {"train": build_filter(recipe, shape, tokenizer), "validation": shape.length_filter}
    found = {}
    for name, given in preferences.items():
        pairs = encode_pairs(given, tokenizer, append_eos_to_target=shape.is_autoregressive)
        found[name], report = keep_pairs(filters[name], pairs)
        if name == "train" or report.num_dropped:
            say(f"preferences, {name}: {report}")
        if not found[name]:
            raise UserError(
                f"no preference for {name} is left; loosen `data.limits`, or take a model with more positions"
            )
    return found


def keep_pairs(length_filter: LengthFilter, pairs: Sequence[EncodedPair]) -> tuple[list[EncodedPair], FilterReport]:
    """Return the pairs of which the filter keeps every answer, and a report on the others."""
    kept, total = [], FilterReport()
    for pair in pairs:
        reports = [
            length_filter.apply([EncodedExample(pair.index, pair.input_ids, answer)])[1]
            for answer in (*pair.chosen, pair.rejected)
        ]
        worst = next((report for report in reports if report.num_dropped), reports[0])
        total += worst
        if not worst.num_dropped:
            kept.append(pair)
    return kept, total
