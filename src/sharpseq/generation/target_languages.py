"""Models and tokenizers that agree on the languages: which one is read, which one is written, how an output begins."""

from __future__ import annotations

import copy

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import (
    TargetStart,
    end_token_id,
    languages_of,
    set_languages,
    target_language_of,
    target_start,
)
from sharpseq.errors import nearest
from sharpseq.models.pretrained import is_seq2seq


def with_languages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: str | None = None,
    target: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model and its tokenizer set to languages; those that are given stay as they are.

    Where no target language is given, it is the one that the model's generation configuration forces, or the one that
    the tokenizer is set to. Outputs of any encoder-decoder model begin as its tokenizer begins targets, unless its
    generation configuration says otherwise.

    Args:
        model: Any model that sharpseq can decode.
        tokenizer: Its tokenizer.
        source: Language of sources, by the tokenizer's name for it; as the tokenizer is set when not given.
        target: Language of outputs, likewise.

    Returns:
        Both, as they were given or as copies that share weights.

    Raises:
        ValueError: If the tokenizer has no language codes or not one of these, the model writes no other language than
            its own, or no target language is known.
    """
    writes = is_seq2seq(model.config)
    if target is not None and languages_of(tokenizer) and not writes:
        raise ValueError("`target_language` is for encoder-decoder models, which begin with it; leave it out")
    chosen = target
    if writes and target is None and languages_of(tokenizer):
        chosen = _language_of_both(model, tokenizer)
    if source is not None or (chosen != target_language_of(tokenizer) and chosen is not None):
        tokenizer = copy.deepcopy(tokenizer)
        set_languages(tokenizer, source=source, target=chosen)
    if not writes or _start_of(model) == (wanted := _wanted_start(model, tokenizer)):
        return model, tokenizer
    twin = copy.copy(model)
    twin.generation_config = copy.deepcopy(model.generation_config)
    _set_start(twin, wanted)
    return twin, tokenizer


def fit_target_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make an encoder-decoder model begin its outputs as its tokenizer begins targets; this is saved with the model.

    Args:
        model: The model; its configurations are changed.
        tokenizer: Its tokenizer, set to languages if it has codes for them.
    """
    if is_seq2seq(model.config):
        wanted = _wanted_start(model, tokenizer)
        _set_start(model, wanted)
        if wanted.decoder_start is not None:
            # M2M100's own loss starts the decoder from here.
            model.config.decoder_start_token_id = wanted.decoder_start


def _language_of_both(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    languages, start = languages_of(tokenizer), _start_of(model)
    of_model = next((name for name, code in languages.items() if code in (start.first, start.decoder_start)), None)
    of_tokenizer = target_language_of(tokenizer)
    advice = "give `target_language` (`--target-language` on the command line)"
    if of_model and of_tokenizer and of_model != of_tokenizer:
        raise ValueError(
            f"the model's configuration makes it write {of_model}, and the tokenizer is set to {of_tokenizer}; {advice}"
        )
    language = of_model or of_tokenizer
    if language is None:
        raise ValueError(f"the model writes many languages, and none is chosen; {advice}; {nearest('', languages)}")
    return language


def _start_of(model: PreTrainedModel) -> TargetStart:
    """Return how the outputs of a model begin at present."""
    settings = model.generation_config
    start = getattr(settings, "decoder_start_token_id", None)
    return TargetStart(
        getattr(model.config, "decoder_start_token_id", None) if start is None else start,
        getattr(settings, "forced_bos_token_id", None),
    )


def _wanted_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> TargetStart:
    now, start = _start_of(model), target_start(tokenizer)
    if languages_of(tokenizer) and target_language_of(tokenizer) is None:
        return now
    if not languages_of(tokenizer):
        return TargetStart(now.decoder_start, start.first if now.first is None else now.first)
    # Without a start of its own, mBART takes what it finds at the end of a target: its language code, or EOS.
    default = end_token_id(tokenizer) if now.decoder_start is None else now.decoder_start
    return TargetStart(default if start.decoder_start is None else start.decoder_start, start.first)


def _set_start(model: PreTrainedModel, start: TargetStart) -> None:
    if start != _start_of(model):
        model.generation_config.decoder_start_token_id = start.decoder_start
        model.generation_config.forced_bos_token_id = start.first
