"""The languages that a recipe names, and the tokenizer that must know them."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from sharpseq import data
from sharpseq.errors import UserError
from sharpseq.recipe import schema

_KEYS = ("source_language", "target_language")


def set_recipe_languages(
    section: schema.Pretrained | schema.Tokenizer, tokenizer: PreTrainedTokenizerBase, *, place: Callable[..., str]
) -> None:
    """Set a tokenizer to the languages of the section of a recipe that it belongs to.

    Args:
        section: The section.
        tokenizer: The tokenizer; changed in place.
        place: Called with nothing or with a key of the section, returns where that is in the recipe.

    Raises:
        UserError: If the tokenizer has language codes and a language is missing or unknown, or if it has none and a
            language is given.
    """
    languages = data.languages_of(tokenizer)
    for key, name in ((key, getattr(section, key)) for key in _KEYS):
        if name is None and languages:
            known = ", ".join(sorted(languages)[:3])
            raise UserError(
                f"{place()}: `{key}` is missing, and the tokenizer marks the languages of texts; give both "
                f"{' and '.join(f'`{each}`' for each in _KEYS)}, by names such as {known}"
            )
        try:
            data.set_languages(tokenizer, **{key.removesuffix("_language"): name})
        except ValueError as error:
            raise UserError(f"{place(key)}: {error}") from error
