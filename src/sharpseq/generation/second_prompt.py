"""The second prompt that some logits processors read, from its text."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from sharpseq.data import Example, attach_prompt, encode_sources, prompt_of
from sharpseq.declarations import build_methods
from sharpseq.decoding.processors import PROCESSORS

_FIELD = "{source}"


def second_prompt_in(options: Mapping[str, Any]) -> str | None:
    """Return the text of the second prompt that the ``processors`` of a decoder's options read; None without one.

    Raises:
        ValueError: If two of them read different ones.

    Example:
        >>> second_prompt_in({"processors": [{"name": "uscd", "lame_prompt": "Text: {source}"}]})
        'Text: {source}'
    """
    processors = build_methods(PROCESSORS, options.get("processors", ()))
    texts = {each.second_prompt for each in processors} - {None}
    if len(texts) > 1:
        raise ValueError("`processors` must read the same second prompt; give all of them one `lame_prompt`")
    return next(iter(texts), None)


def encode_second_prompt(
    tokenizer: PreTrainedTokenizerBase, text: str, sources: Sequence[str | Example]
) -> list[list[int]]:
    """Encode sources with another prompt than the tokenizer's own; no history of a conversation is read.

    Args:
        tokenizer: The tokenizer of the model.
        text: The prompt, with ``{source}`` where a source stands; for a chat it is the user's message.
        sources: Source texts or examples.

    Raises:
        ValueError: If it is the prompt that the model reads anyway.
    """
    own = prompt_of(tokenizer)
    if text == (_FIELD if own is None else own.template):
        raise ValueError(f"`lame_prompt` must differ from what the model reads anyway; got {text!r}")
    if own is not None:
        tokenizer = copy.deepcopy(tokenizer)
        attach_prompt(tokenizer, replace(own, template=_FIELD))
    plain = [source if isinstance(source, str) else source.source for source in sources]
    return encode_sources(tokenizer, [text.replace(_FIELD, source) for source in plain])
