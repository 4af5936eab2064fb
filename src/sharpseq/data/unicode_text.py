"""Unicode: one spelling for each character, and only whole characters.

Many characters have two spellings that look the same: ``ü`` is one code point, or ``u`` and a combining diaeresis. A
tokenizer that knows one spelling does not know the other. NFC (normalisation form C of Unicode) is the composed
spelling, which almost all text uses. macOS and some PDF tools write the other one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from sharpseq.data.examples import Example
from sharpseq.plain_text import UnicodeNormalization, check_form, normalize_text

_KEPT_AS = "unicode_normalization"
_SURROGATE = re.compile("[\ud800-\udfff]")


def normalize_example(example: Example, form: UnicodeNormalization = "nfc") -> Example:
    """Return an example with its source, target, references and history in one spelling.

    Args:
        example: The example.
        form: ``"nfc"`` or ``"none"``.

    Raises:
        ValueError: If ``form`` is unknown.
    """
    check_form(form)
    texts = (example.source, example.target, *example.references, *(turn.content for turn in example.history))
    if form == "none" or all(unicodedata.is_normalized("NFC", text) for text in texts):
        return example
    return Example(
        normalize_text(example.source),
        normalize_text(example.target),
        references=tuple(normalize_text(text) for text in example.references),
        history=tuple(replace(turn, content=normalize_text(turn.content)) for turn in example.history),
    )


def set_unicode_normalization(tokenizer: PreTrainedTokenizerBase, form: UnicodeNormalization) -> None:
    """Set how texts are normalised before a tokenizer encodes them; this is saved with the tokenizer.

    It governs :func:`sharpseq.data.encode`, :func:`sharpseq.data.encode_sources` and all that is built on them. A
    tokenizer from :func:`sharpseq.data.train_tokenizer` also normalises by itself, as it was told in training.

    Args:
        tokenizer: The tokenizer; changed in place.
        form: ``"nfc"`` or ``"none"``.

    Raises:
        ValueError: If ``form`` is unknown.
    """
    check_form(form)
    tokenizer.init_kwargs[_KEPT_AS] = form


def unicode_normalization_of(tokenizer: PreTrainedTokenizerBase) -> UnicodeNormalization:
    """Return how texts are normalised before a tokenizer encodes them: ``"nfc"`` unless it says otherwise."""
    form: UnicodeNormalization = tokenizer.init_kwargs.get(_KEPT_AS, "nfc")
    return form


def surrogate_fault(text: str) -> str | None:
    r"""Say which half of a character a text has without the other half; None if all characters are whole.

    JSON writes characters outside the basic plane, such as emojis, as two halves, called surrogates. One alone is no
    character: it cannot be written as UTF-8, and tokenizers refuse it.

    Args:
        text: The text.

    Example:
        >>> surrogate_fault("a \ud83d")
        'half a character at position 3, the lone surrogate \\ud83d'
    """
    if text.isascii():
        return None
    found = _SURROGATE.search(text)
    return found and f"half a character at position {found.start() + 1}, the lone surrogate \\u{ord(found[0]):04x}"
