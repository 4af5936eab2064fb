"""From texts to token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from sharpseq.data.examples import Example
from sharpseq.data.tokenizers import encode_sources, end_token_id


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids, neither cut nor padded.

    Args:
        index: Position of the example in its corpus, from 0: in a text file, the line number less 1.
        input_ids: Source tokens with the end token, as the encoder reads them.
        labels: Target tokens, with the end token for autoregressive models only.
    """

    index: int
    input_ids: list[int]
    labels: list[int]


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
        tokenizer: Tokenizer of sources and targets. What it adds to a source by itself (begin token, language code)
            stays.
        append_eos_to_target: Targets as an autoregressive model learns them: with what the tokenizer adds to a target
            by itself, ended by the end token. Otherwise the bare target tokens, for models that predict the length.
        first_index: Index of the first example.

    Returns:
        One encoded example for each, in order; an empty target gives empty labels, or the end token alone.

    Example:
        >>> from sharpseq.data import Example, train_tokenizer
        >>> tokenizer = train_tokenizer(["ab"], kind="characters")
        >>> encode([Example("ab", "b")], tokenizer, append_eos_to_target=True)
        [EncodedExample(index=0, input_ids=[5, 6, 0], labels=[6, 0])]
    """
    sources = encode_sources(tokenizer, [example.source for example in examples])
    targets = _encode_targets(
        tokenizer, [example.target for example in examples], append_eos_to_target=append_eos_to_target
    )
    return [
        EncodedExample(index, input_ids, labels)
        for index, (input_ids, labels) in enumerate(zip(sources, targets, strict=True), start=first_index)
    ]


def _encode_targets(
    tokenizer: PreTrainedTokenizerBase, lines: list[str], *, append_eos_to_target: bool
) -> list[list[int]]:
    if not lines:
        return []
    encoded = tokenizer(
        text_target=lines,
        add_special_tokens=append_eos_to_target,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    targets: list[list[int]] = encoded["input_ids"]
    if not append_eos_to_target:
        return targets
    end, special = end_token_id(tokenizer), set(tokenizer.all_special_ids)
    return [_ended(ids, end=end, special=special) for ids in targets]


def _ended(ids: list[int], *, end: int, special: set[int]) -> list[int]:
    # A language code that some tokenizers put after the end token is never to be generated: the labels stop before it.
    for position in range(len(ids) - 1, -1, -1):
        if ids[position] == end:
            return ids[: position + 1]
        if ids[position] not in special:
            break
    return [*ids, end]
