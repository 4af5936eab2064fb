"""Encode texts as token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from sharpseq.data.examples import Example
from sharpseq.data.languages import languages_of, target_language_of, target_start
from sharpseq.data.prompts import encode_answers, encode_prompts, prompt_of, refuse_history
from sharpseq.data.tokenizers import end_token_id
from sharpseq.data.unicode_text import normalize_example, surrogate_fault, unicode_normalization_of
from sharpseq.plain_text import normalize_text


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids, neither cut nor padded.

    Args:
        index: Position of the example in its corpus, from 0: in a text file, the line number less 1.
        input_ids: Source tokens ending with EOS, as the encoder reads them; for a causal model its prompt, without EOS.
        labels: Target tokens, with EOS for autoregressive models only.
    """

    index: int
    input_ids: list[int]
    labels: list[int]

    num_rows: ClassVar[int] = 1
    """Rows of a batch that it takes."""


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    append_eos_to_target: bool,
    first_index: int = 0,
) -> list[EncodedExample]:
    """Encode a corpus.

    Args:
        examples: The corpus.
        tokenizer: Tokenizer of sources and targets. The special tokens that it adds to a source by itself (BOS, a
            language code) are kept. One with a prompt encodes prompts and answers, see
            :func:`sharpseq.data.attach_prompt`.
        append_eos_to_target: Encode targets as an autoregressive model learns them: with the special tokens that the
            tokenizer adds by itself in front, such as the code of the target language, and EOS at the end. Otherwise
            the target tokens alone, for models that predict the length.
        first_index: Index of the first example.

    Returns:
        One encoded example for each, in order; an empty target gives empty labels, or EOS alone.

    Raises:
        UserError: If an example has a history but the tokenizer has no chat prompt, or if the chat template refuses it.
        ValueError: If a text has half a character, a lone surrogate, or no target language is set where it matters.

    Example:
        >>> from sharpseq.data import Example, train_tokenizer
        >>> tokenizer = train_tokenizer(["ab"], kind="characters")
        >>> encode([Example("ab", "b")], tokenizer, append_eos_to_target=True)
        [EncodedExample(index=0, input_ids=[5, 6, 0], labels=[6, 0])]
    """
    sources = encode_sources(tokenizer, examples, first_index=first_index)
    lines = [example.target for example in examples]
    targets = encode_targets(tokenizer, lines, append_eos_to_target=append_eos_to_target, first_index=first_index)
    return [
        EncodedExample(index, input_ids, labels)
        for index, (input_ids, labels) in enumerate(zip(sources, targets, strict=True), start=first_index)
    ]


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, sources: Sequence[str | Example], *, first_index: int = 0
) -> list[list[int]]:
    """Encode sources as the models read them; nothing is truncated or padded.

    Sources are normalised to NFC first, unless the tokenizer is set to normalise nothing, and lower-cased if it was
    trained with ``source_lowercase``. A BOS token or language code
    that the tokenizer adds by itself is kept; EOS is appended unless the tokenizer put one there. A tokenizer with a
    prompt encodes whole prompts, exactly as in training, without EOS.

    Args:
        tokenizer: Tokenizer from :func:`train_tokenizer` or any Hugging Face tokenizer.
        sources: Source texts; or examples, whose history is read too but not their target.
        first_index: Index of the first source, for error messages.

    Returns:
        Token ids of each source.

    Raises:
        UserError: If an example has a history but the tokenizer has no chat prompt, or if the chat template refuses it.
        ValueError: If a text has half a character, a lone surrogate.

    Example:
        >>> from sharpseq.data import train_tokenizer
        >>> tokenizer = train_tokenizer(["hello"], kind="characters", source_lowercase=True)
        >>> encode_sources(tokenizer, ["HELLO", ""]) == [tokenizer("hello").input_ids, [tokenizer.eos_token_id]]
        True
    """
    if not sources:
        return []
    examples = [_prepared(source, tokenizer) for source in sources]
    _check_whole([example.source for example in examples], first_index=first_index)
    prompt = prompt_of(tokenizer)
    if prompt is not None:
        return encode_prompts(tokenizer, examples, prompt=prompt, first_index=first_index)
    for number, example in enumerate(examples, start=first_index + 1):
        refuse_history(example, number=number)
    encoded = tokenizer(
        [example.source for example in examples],
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    end, special = end_token_id(tokenizer), set(tokenizer.all_special_ids)
    return [ids if _is_ended(ids, end=end, special=special) else [*ids, end] for ids in encoded["input_ids"]]


def prepare_sources(tokenizer: PreTrainedTokenizerBase, sources: Iterable[str | Example]) -> list[str]:
    """Return source texts as :func:`encode_sources` gives them to the tokenizer: normalised, perhaps lower-cased.

    Args:
        tokenizer: The tokenizer.
        sources: Source texts, or examples.
    """
    return [_prepared(source, tokenizer).source for source in sources]


def _prepared(source: str | Example, tokenizer: PreTrainedTokenizerBase) -> Example:
    form = unicode_normalization_of(tokenizer)
    example = normalize_example(Example(source, "") if isinstance(source, str) else source, form)
    if tokenizer.init_kwargs.get("source_lowercase", False):
        example = replace(example, source=normalize_text(example.source.lower(), form))
    return example


def _check_whole(texts: Sequence[str], *, first_index: int) -> None:
    for number, text in enumerate(texts, start=first_index + 1):
        fault = surrogate_fault(text)
        if fault:
            raise ValueError(f"example {number} has {fault}; write the whole character, or drop it")


def _is_ended(ids: Sequence[int], *, end: int, special: set[int]) -> bool:
    # Some tokenizers put a language code after EOS: look through all special tokens at the end.
    for token in reversed(ids):
        if token == end:
            return True
        if token not in special:
            return False
    return False


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, targets: Sequence[str], *, append_eos_to_target: bool, first_index: int = 0
) -> list[list[int]]:
    """Encode targets as :func:`encode` does.

    Args:
        tokenizer: Tokenizer of sources and targets.
        targets: Target texts.
        append_eos_to_target: As for :func:`encode`.
        first_index: Index of the first target, for error messages.

    Returns:
        Token ids of each target.

    Raises:
        ValueError: If a text has half a character, a lone surrogate, or an autoregressive model would learn targets of
            a tokenizer with language codes for which no target language is set.
    """
    if not targets:
        return []
    form = unicode_normalization_of(tokenizer)
    lines = [normalize_text(target, form) for target in targets]
    _check_whole(lines, first_index=first_index)
    prompt = prompt_of(tokenizer)
    if prompt is not None:
        return encode_answers(tokenizer, lines, prompt=prompt, append_end=append_eos_to_target)
    lacks_language = bool(languages_of(tokenizer)) and target_language_of(tokenizer) is None
    if lacks_language and append_eos_to_target:
        raise ValueError("`tokenizer` must have a target language; set one with `sharpseq.data.set_languages`")
    encoded = tokenizer(
        # Without a target language, some tokenizers fail and others take that of sources.
        **({"text": lines} if lacks_language else {"text_target": lines}),
        add_special_tokens=append_eos_to_target,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    rows: list[list[int]] = encoded["input_ids"]
    if not append_eos_to_target:
        return rows
    end, special, first = end_token_id(tokenizer), set(tokenizer.all_special_ids), target_start(tokenizer).first
    begun = [ids if first is None or ids[:1] == [first] else [first, *ids] for ids in rows]
    return [_ended(ids, end=end, special=special) for ids in begun]


def _ended(ids: list[int], *, end: int, special: set[int]) -> list[int]:
    # Some tokenizers put a language code after EOS, which the model must not learn to generate: the labels stop at EOS.
    for position in range(len(ids) - 1, -1, -1):
        if ids[position] == end:
            return ids[: position + 1]
        if ids[position] not in special:
            break
    return [*ids, end]
