"""Pairs of languages as the tokenizer of a multilingual model names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpseq.data import languages_of, load_tokenizer
from sharpseq.errors import UserError, nearest
from sharpseq.serving.language_names import language_of_tokenizer
from sharpseq.serving.translators import Pair


def only_pair(folder: str, pairs: Sequence[Pair]) -> Pair:
    """Return the pair that an export serves; an engine is loaded for one.

    Raises:
        UserError: If there are several.
    """
    if len(pairs) > 1:
        raise UserError(
            f"{folder}: an export serves one pair of languages; got {', '.join(map(str, pairs))}; give it once for each"
        )
    return pairs[0]


def names_of_pairs(folder: str | Path, pairs: Sequence[Pair]) -> dict[Pair, dict[str, Any]]:
    """Return the languages of each pair as a model's tokenizer names them.

    Args:
        folder: The model's folder, with the tokenizer in it, or its Hub id.
        pairs: The pairs.

    Returns:
        ``source_language`` and ``target_language`` of each pair; neither for a tokenizer without language codes.

    Raises:
        ValueError: If the tokenizer does not know a language, or has no codes and there are several pairs.
    """
    known = languages_of(load_tokenizer(folder))
    if not known:
        if len(pairs) > 1:
            raise ValueError(f"it has no language codes and translates one pair only; got {', '.join(map(str, pairs))}")
        return {pair: {} for pair in pairs}
    return {
        pair: {
            "source_language": _name(pair.source, known),
            "target_language": _name(pair.target, known),
        }
        for pair in pairs
    }


def _name(code: str, known: Mapping[str, int]) -> str:
    name = language_of_tokenizer(code, known)
    if name is None:
        raise ValueError(f"its tokenizer has no language {code!r}, or several; {nearest(code, known)}")
    return name
