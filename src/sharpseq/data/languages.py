"""Languages of multilingual tokenizers: which there are, which a text is marked with, and where a target begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from sharpseq.data.prompts import prompt_of
from sharpseq.errors import nearest

_ANY_TEXT = "a"
_MOST_ALIKE = 3


@dataclass(frozen=True)
class TargetStart:
    """What a decoder reads before the first token of a target's text.

    Args:
        decoder_start: The token that starts the decoder in place of the model's own, as mBART's language code does;
            None where the model's own does.
        first: The first token of every target, as the language code of NLLB, M2M100 and mBART-50 and BART's BOS token
            are; None where targets begin with their text.
    """

    decoder_start: int | None = None
    first: int | None = None


def languages_of(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, int]:
    """Return the languages that a tokenizer can mark, by the names it uses, with the ids of their codes.

    Args:
        tokenizer: The tokenizer.

    Returns:
        Names such as ``eng_Latn`` (NLLB), ``de`` (M2M100) or ``de_DE`` (mBART); empty for one without language codes.
    """
    if not (hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang")):
        return {}
    codes = dict(getattr(tokenizer, "lang_code_to_id", {}))
    if not hasattr(tokenizer, "get_lang_id"):  # that of M2M100 knows its table and nothing else
        extra = [str(token) for token in tokenizer.extra_special_tokens]
        codes |= {token: tokenizer.convert_tokens_to_ids(token) for token in extra}
    return {name: code for name, code in codes.items() if code not in (None, tokenizer.unk_token_id)}


def target_language_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the language that a tokenizer marks targets with; None if it has none, or none is set."""
    return getattr(tokenizer, "tgt_lang", None) if languages_of(tokenizer) else None


def chosen_languages(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return ``source_language`` and ``target_language`` as a tokenizer has them; those that it lacks are left out."""
    names = {"source_language": getattr(tokenizer, "src_lang", None), "target_language": target_language_of(tokenizer)}
    return {key: name for key, name in names.items() if name is not None} if languages_of(tokenizer) else {}


def set_languages(tokenizer: PreTrainedTokenizerBase, *, source: str | None = None, target: str | None = None) -> None:
    """Set the languages that a multilingual tokenizer marks sources and targets with; they are saved with it.

    Args:
        tokenizer: A tokenizer with language codes, such as those of NLLB, M2M100, mBART and mBART-50; changed in place.
        source: Name of the language of sources, as the tokenizer knows it; as it is when not given.
        target: Name of the language of targets, likewise.

    Raises:
        ValueError: If the tokenizer has no language codes, or not one of these.
    """
    languages = languages_of(tokenizer)
    for key, name in (("source_language", source), ("target_language", target)):
        if name is None:
            continue
        if not languages:
            raise ValueError(
                f"`{key}` is for models with language codes, such as NLLB, M2M100 and mBART, and the tokenizer of this "
                "one has none; leave it out"
            )
        if name not in languages:
            raise ValueError(f"`{key}`: the tokenizer has no language {name!r}; {_alike(name, languages)}")
    if source is not None:
        tokenizer.src_lang = source
    if target is not None:
        tokenizer.tgt_lang = target
        target_start(tokenizer)


def target_start(tokenizer: PreTrainedTokenizerBase) -> TargetStart:
    """Return what a decoder reads before the text of a target, as the tokenizer encodes targets.

    Args:
        tokenizer: The tokenizer of an encoder-decoder model. One with language codes but no target language begins its
            targets in no way yet.

    Raises:
        ValueError: If the tokenizer marks the language of targets in a way that is not known here.
    """
    language = target_language_of(tokenizer)
    if prompt_of(tokenizer) is not None or (languages_of(tokenizer) and language is None):
        return TargetStart()
    before, after = _added_to_targets(tokenizer)
    if language is None:
        return TargetStart(first=before[0] if len(before) == 1 else None)
    code = languages_of(tokenizer)[language]
    # NLLB's legacy mode writes the code after EOS, although the model begins with it like all of its kind.
    if before == [code] or (code in after and getattr(tokenizer, "legacy_behaviour", False)):
        return TargetStart(first=code)
    if code in after and not before:
        return TargetStart(decoder_start=code)
    raise ValueError(
        f"`tokenizer` ({type(tokenizer).__name__}) marks the language of targets in a way that sharpseq does not know"
    )


def _added_to_targets(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the token ids that a tokenizer puts before and after a target by itself."""
    bare, whole = (
        tokenizer(text_target=_ANY_TEXT, add_special_tokens=adds, verbose=False)["input_ids"] for adds in (False, True)
    )
    starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    start = next(starts, 0)
    return whole[:start], whole[start + len(bare) :]


def _alike(name: str, languages: Mapping[str, int]) -> str:
    """Return what to say about an unknown language: ``de`` is often meant for ``de_DE`` or ``deu_Latn``."""
    stem = name.lower().strip("_")
    bare = {known: known.lower().strip("_") for known in languages}
    alike = [known for known, other in bare.items() if other.startswith(stem) or stem.startswith(other)]
    if not stem or not alike:
        return nearest(name, languages)
    return f"did you mean {' or '.join(f'`{known}`' for known in sorted(alike)[:_MOST_ALIKE])}?"
