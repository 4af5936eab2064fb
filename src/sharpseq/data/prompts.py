"""Prompts of causal language models: the text around a source, kept with the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from sharpseq.data.chat_templates import (
    chat_text,
    end_of_turn,
    missing_generation_prompt,
    sanitized_chat_ids,
)
from sharpseq.data.examples import Example, Message
from sharpseq.data.unicode_text import surrogate_fault
from sharpseq.errors import UserError

PromptKind = Literal["plain", "chat"]

_FIELD = "{source}"
_KEPT_AS = "sharpseq_prompt"

_ANY_TEXT = "a"
_PROBE = "source-4711"
"""A source that no template writes by itself."""


@dataclass(frozen=True)
class Prompt:
    r"""What a causal language model reads before it writes.

    Args:
        kind: ``"plain"``: the template is the whole text. ``"chat"``: the template is the user's message, and the
            tokenizer's chat template puts it into a conversation.
        template: Text with ``{source}`` in one place; other braces have no special meaning.
        system: System message, for ``"chat"`` only. Without one the chat template may add its own default; an empty
            string is an empty system message.

    Raises:
        ValueError: If ``kind`` is unknown, ``{source}`` does not occur exactly once, a plain prompt has a system
            message, or a text has half a character, a lone surrogate.

    Example:
        >>> Prompt("plain", "German: {source}\nEnglish:").text("ein Hund")
        'German: ein Hund\nEnglish:'
    """

    kind: PromptKind
    template: str = _FIELD
    system: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in get_args(PromptKind):
            raise ValueError(f"`kind` must be one of {', '.join(get_args(PromptKind))}; got {self.kind!r}")
        if self.template.count(_FIELD) != 1:
            raise ValueError(f"`template` must hold {_FIELD} exactly once; got {self.template!r}")
        if self.system is not None and self.kind != "chat":
            raise ValueError("`system` is for kind 'chat' only; write it into the `template` of a plain prompt")
        for name, text in (("template", self.template), ("system", self.system or "")):
            fault = surrogate_fault(text)
            if fault:
                raise ValueError(f"`{name}` must hold whole characters; it has {fault}")

    def text(self, source: str) -> str:
        """Return the template with a source filled in."""
        return self.template.replace(_FIELD, source)


def attach_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
    """Make a tokenizer encode sources with a prompt, which is saved with the tokenizer.

    Args:
        tokenizer: Tokenizer of a causal language model; changed in place. An earlier prompt is replaced.
        prompt: The prompt.

    Raises:
        ValueError: If it is a chat prompt and the tokenizer has no chat template.
        UserError: If the chat template refuses the prompt, as some refuse system messages, or does not show where an
            assistant's turn begins.
    """
    if prompt.kind == "chat" and not tokenizer.chat_template:
        raise ValueError(
            "`prompt` of kind 'chat' needs a tokenizer with a chat template, and this one has none; use the model's "
            "instruction-tuned version, or a prompt of kind 'plain'"
        )
    if prompt.kind == "chat":
        chat_text(tokenizer, _conversation(prompt, Example("", "")), where="`prompt`")
        missing_generation_prompt(tokenizer)
    tokenizer.init_kwargs[_KEPT_AS] = asdict(prompt)


def detach_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take away the prompt of a tokenizer, if it has one; changed in place."""
    tokenizer.init_kwargs.pop(_KEPT_AS, None)


def prompt_of(tokenizer: PreTrainedTokenizerBase) -> Prompt | None:
    """Return the prompt that a tokenizer encodes sources with; None if it has none, as for all other models."""
    kept = tokenizer.init_kwargs.get(_KEPT_AS)
    return None if kept is None else Prompt(**kept)


def prompt_is_usable(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return False if a tokenizer was saved with a chat prompt and its template is lost or writes no sources."""
    prompt = prompt_of(tokenizer)
    if prompt is None or prompt.kind != "chat":
        return True
    if not tokenizer.chat_template:
        return False
    try:
        return _PROBE in chat_text(tokenizer, _conversation(prompt, Example(_PROBE, "")), where="`prompt`")
    except UserError:
        return False


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], *, prompt: Prompt, first_index: int = 0
) -> list[list[int]]:
    """Encode what a causal language model reads before it writes.

    A plain prompt begins with BOS if the tokenizer adds it, and has no EOS. A chat prompt is the tokenizer's chat
    template applied to the system message, the history and the user's message, up to where the assistant's turn
    begins; a template without a generation prompt is completed by what it writes before answers. A history that begins
    with its own system message keeps it. An empty prompt becomes BOS, or EOS for a tokenizer without BOS: something
    must predict the first token.

    Special tokens spelled out in a source or a history are ordinary characters; in a plain template they are special
    tokens.

    Args:
        tokenizer: The tokenizer, which has a chat template for a chat prompt.
        examples: What to encode; the targets are not read.
        prompt: The prompt.
        first_index: Index of the first example, for error messages.

    Returns:
        Token ids of each, neither truncated nor padded.

    Raises:
        UserError: If an example has a history but the prompt is not a chat, or if the chat template refuses the roles.
    """
    encode = _chat_prompts if prompt.kind == "chat" else _plain_prompts
    rows = encode(tokenizer, examples, prompt, first_index)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [row or [int(first)] for row in rows]


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, targets: Sequence[str], *, prompt: Prompt, append_end: bool = True
) -> list[list[int]]:
    """Encode what a causal language model writes after a prompt.

    Special tokens spelled out in a target are ordinary characters: a text about markup must not end there.

    Args:
        tokenizer: The tokenizer.
        targets: Target texts.
        prompt: The prompt. The target of a chat ends with the end of a turn, that of a plain prompt with EOS.
        append_end: Whether to append that end.

    Returns:
        Token ids of each, neither truncated nor padded.
    """
    rows = _ids(tokenizer, targets, split_special_tokens=True)
    if not append_end:
        return rows
    end = end_of_turn(tokenizer) if prompt.kind == "chat" else [tokenizer.eos_token_id]
    return [[*row, *end] for row in rows]


def refuse_history(example: Example, *, number: int) -> None:
    """Raise if an example has a history, which only a chat prompt can show.

    Args:
        example: An example that is encoded without a chat prompt.
        number: Its number in the corpus, from 1.

    Raises:
        UserError: If it has a history.
    """
    if example.history:
        raise UserError(
            f"example {number} has {len(example.history)} earlier message(s), which only a prompt of kind `chat` can "
            "show; choose that kind, or leave the earlier messages out of the corpus"
        )


def _conversation(prompt: Prompt, example: Example) -> list[Message]:
    turns = [*example.history, Message("user", prompt.text(example.source))]
    if prompt.system is not None and turns[0].role != "system":
        turns.insert(0, Message("system", prompt.system))
    return turns


def _chat_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], prompt: Prompt, first_index: int
) -> list[list[int]]:
    missing = missing_generation_prompt(tokenizer)
    special, texts, sanitized = _special_tokens(tokenizer), [], {}
    for position, example in enumerate(examples):
        turns, where = _conversation(prompt, example), f"example {first_index + position + 1}"
        texts.append(chat_text(tokenizer, turns, where=where) + missing)
        if any(token in turn.content for turn in turns for token in special):
            (ids_of_missing,) = _ids(tokenizer, [missing], split_special_tokens=False)
            sanitized[position] = sanitized_chat_ids(tokenizer, turns, where=where) + ids_of_missing
    # The template marks turns with special tokens, and it writes BOS itself.
    rows = _ids(tokenizer, texts, split_special_tokens=False)
    return [sanitized.get(position, row) for position, row in enumerate(rows)]


def _plain_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], prompt: Prompt, first_index: int
) -> list[list[int]]:
    for number, example in enumerate(examples, start=first_index + 1):
        refuse_history(example, number=number)
    special, begin = _special_tokens(tokenizer), _begin_ids(tokenizer)
    rows = _ids(tokenizer, [prompt.text(example.source) for example in examples])
    before, _, after = prompt.template.partition(_FIELD)
    for position, example in enumerate(examples):
        if any(token in example.source for token in special):
            (source,) = _ids(tokenizer, [example.source], split_special_tokens=True)
            head, tail = _ids(tokenizer, [before, after])
            rows[position] = [*head, *source, *tail]
    return [[*begin, *row] for row in rows]


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]


def _begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids that a tokenizer puts before a text by itself."""
    (bare,) = _ids(tokenizer, [_ANY_TEXT])
    whole: list[int] = tokenizer(_ANY_TEXT, verbose=False)["input_ids"]
    starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[: next(starts, 0)]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **settings,
    )["input_ids"]
    return ids
