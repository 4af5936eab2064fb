"""How a causal language model is asked: the text around a source, kept with the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from sharpseq.data.chat_templates import chat_text, end_of_turn, sanitized_chat_ids
from sharpseq.data.examples import Example, Message
from sharpseq.errors import UserError

PromptKind = Literal["plain", "chat"]

_FIELD = "{source}"
_KEPT_AS = "sharpseq_prompt"

_ANY_TEXT = "a"


@dataclass(frozen=True)
class Prompt:
    r"""What a causal language model reads before it writes.

    Args:
        kind: ``"plain"``: the template is the whole text. ``"chat"``: the template is what the user says, and the
            tokenizer's chat template puts it into a conversation.
        template: Text with ``{source}`` in one place; other braces mean nothing.
        system: System message, for ``"chat"`` only. Without one the chat template may add its own default; an empty
            text is an empty system message.

    Raises:
        ValueError: If ``kind`` is unknown, ``{source}`` does not occur exactly once, or a plain prompt has a system
            message.

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
            raise ValueError("`system` goes with kind 'chat' only; write it into the `template` of a plain prompt")

    def text(self, source: str) -> str:
        """Return the template with a source in it."""
        return self.template.replace(_FIELD, source)


def attach_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
    """Make a tokenizer encode sources with a prompt, and keep it when the tokenizer is saved.

    Args:
        tokenizer: Tokenizer of a causal language model; changed in place. An earlier prompt is replaced.
        prompt: The prompt.

    Raises:
        ValueError: If it is a chat prompt and the tokenizer has no chat template.
        UserError: If the chat template refuses the prompt, as some refuse system messages.
    """
    if prompt.kind == "chat" and not tokenizer.chat_template:
        raise ValueError(
            "`prompt` of kind 'chat' needs a tokenizer with a chat template, and this one has none; take the model's "
            "instruction-tuned version, or a prompt of kind 'plain'"
        )
    if prompt.kind == "chat":
        chat_text(tokenizer, _conversation(prompt, Example("", "")), where="`prompt`")
    tokenizer.init_kwargs[_KEPT_AS] = asdict(prompt)


def prompt_of(tokenizer: PreTrainedTokenizerBase) -> Prompt | None:
    """Return the prompt that a tokenizer encodes sources with, None for the tokenizers of all other models."""
    kept = tokenizer.init_kwargs.get(_KEPT_AS)
    return None if kept is None else Prompt(**kept)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], *, prompt: Prompt, first_index: int = 0
) -> list[list[int]]:
    """Encode what a causal language model reads before it writes.

    A plain prompt begins with the begin token if the tokenizer adds one, and has no end token. A chat prompt is the
    tokenizer's chat template applied to the system message, the history and what the user says, up to where the
    assistant begins. A history that begins with a system message of its own keeps it. An empty prompt becomes the
    begin token, or the end token of a tokenizer without one: something must predict the first token.

    Special tokens that are spelt in a source or in a history are ordinary characters; in a plain template they count.

    Args:
        tokenizer: The tokenizer, which has a chat template for a chat prompt.
        examples: What to encode; the targets are not read.
        prompt: The prompt.
        first_index: Number of the first example, for messages.

    Returns:
        Token ids of each, neither cut nor padded.

    Raises:
        UserError: If an example has a history and the prompt is no chat, or the chat template refuses the roles.
    """
    encode = _chat_prompts if prompt.kind == "chat" else _plain_prompts
    rows = encode(tokenizer, examples, prompt, first_index)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [row or [int(first)] for row in rows]


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, targets: Sequence[str], *, prompt: Prompt, append_end: bool = True
) -> list[list[int]]:
    """Encode what a causal language model writes behind a prompt.

    Special tokens that are spelt in a target are ordinary characters: a text about markup must not end there.

    Args:
        tokenizer: The tokenizer.
        targets: Target texts.
        prompt: The prompt; what ends a turn ends the target of a chat, the end token that of a plain prompt.
        append_end: Whether the end follows.

    Returns:
        Token ids of each, neither cut nor padded.
    """
    rows = _ids(tokenizer, targets, split_special_tokens=True)
    if not append_end:
        return rows
    end = end_of_turn(tokenizer) if prompt.kind == "chat" else [tokenizer.eos_token_id]
    return [[*row, *end] for row in rows]


def refuse_history(example: Example, *, number: int) -> None:
    """Say that only a chat prompt can show earlier messages.

    Args:
        example: An example that is encoded in another way.
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
    special, texts, sanitized = _special_tokens(tokenizer), [], {}
    for position, example in enumerate(examples):
        turns, where = _conversation(prompt, example), f"example {first_index + position + 1}"
        texts.append(chat_text(tokenizer, turns, where=where))
        if any(token in turn.content for turn in turns for token in special):
            sanitized[position] = sanitized_chat_ids(tokenizer, turns, where=where)
    # The template's marks of turns are special tokens, and it writes the begin token itself.
    rows = _ids(tokenizer, texts, split_special_tokens=False)
    return [sanitized.get(position, row) for position, row in enumerate(rows)]


def _plain_prompts(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], prompt: Prompt, first_index: int
) -> list[list[int]]:
    for number, example in enumerate(examples, start=first_index + 1):
        refuse_history(example, number=number)
    special, begin = _special_tokens(tokenizer), _begin_ids(tokenizer)
    rows = _ids(tokenizer, [prompt.text(example.source) for example in examples])
    before, _, behind = prompt.template.partition(_FIELD)
    for position, example in enumerate(examples):
        if any(token in example.source for token in special):
            (source,) = _ids(tokenizer, [example.source], split_special_tokens=True)
            head, tail = _ids(tokenizer, [before, behind])
            rows[position] = [*head, *source, *tail]
    return [[*begin, *row] for row in rows]


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]


def _begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what a tokenizer puts before a text by itself."""
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
