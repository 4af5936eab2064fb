"""A tokenizer's chat template: what a conversation looks like to a model, and how a turn ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sharpseq.data.examples import Message
from sharpseq.errors import UserError

_QUESTION, _ANSWER = "question-4711", "answer-4711"
"""Contents that no template writes by itself."""

# Templates that print today's date get this date instead, so that a model reads the same prompt in training and years
# later. It is the date that Llama's templates fall back to.
_TODAY = {
    "d": "26",
    "m": "07",
    "b": "Jul",
    "B": "July",
    "y": "24",
    "Y": "2024",
    "a": "Fri",
    "A": "Friday",
    "H": "00",
    "M": "00",
    "S": "00",
}


def chat_text(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], *, where: str) -> str:
    """Return a conversation as text, up to the point where the assistant's next turn begins.

    Args:
        tokenizer: A tokenizer with a chat template.
        turns: The conversation so far.
        where: How error messages refer to the conversation.

    Raises:
        UserError: If the template refuses the conversation, as some do when the roles do not alternate.
    """
    text: str = _applied(tokenizer, turns, where=where, add_generation_prompt=True, tokenize=False)
    return text


def sanitized_chat_ids(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], *, where: str) -> list[int]:
    """Return the token ids of :func:`chat_text`; special tokens spelled out in a turn are ordinary characters.

    Args:
        tokenizer: A tokenizer with a chat template.
        turns: The conversation so far.
        where: How error messages refer to the conversation.

    Raises:
        UserError: If the template refuses the conversation.
    """
    options = {"add_generation_prompt": True, "return_dict": False, "sanitize_control_tokens": True}
    ids: list[int] = _applied(tokenizer, turns, where=where, **options)
    return ids


def missing_generation_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what a template writes before an assistant's answer, if it leaves that out of a generation prompt.

    Most templates end a generation prompt with the beginning of an assistant's turn. Some know no generation prompts:
    without what they write before answers, a model would be trained and asked without the mark of the assistant.

    Args:
        tokenizer: A tokenizer with a chat template.

    Returns:
        The text to append to a generation prompt; empty if nothing visible is missing.

    Raises:
        UserError: If the template refuses a question and its answer, or knows no generation prompts and answers do not
            continue its questions.
    """
    question, where = [Message("user", _QUESTION)], "a question and its answer"
    options: dict[str, Any] = {"where": where, "tokenize": False}
    asked: str = _applied(tokenizer, question, add_generation_prompt=True, **options)
    answered: str = _applied(tokenizer, [*question, Message("assistant", _ANSWER)], **options)
    if answered.startswith(asked):
        before, _, _ = answered[len(asked) :].partition(_ANSWER)
        # The space that some templates write before an answer is part of the answer's first token.
        return before if before.strip() else ""
    if asked == _applied(tokenizer, question, **options):
        raise UserError(
            "the model's chat template has no generation prompt: it does not show where an assistant's turn begins; "
            "use a prompt of kind `plain`"
        )
    return ""


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids that end an assistant turn.

    Args:
        tokenizer: A tokenizer with a chat template and an EOS token.

    Returns:
        What the template writes after an assistant turn, up to and including the first special token; EOS alone if
        that token is EOS, or if there is none.

    Raises:
        UserError: If the template refuses a question and its answer.
        ValueError: If there is no EOS token.
    """
    turns = [Message("user", _QUESTION), Message("assistant", _ANSWER)]
    text: str = _applied(tokenizer, turns, where="a question and its answer", tokenize=False)
    _, found, after = text.rpartition(_ANSWER)
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("`tokenizer` must have an `eos_token`")
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special} - {end}
    ids: list[int] = tokenizer.encode(after if found else "", add_special_tokens=False, split_special_tokens=False)
    for position, id_ in enumerate(ids):
        if id_ in special:
            return ids[: position + 1]
        if id_ == end:
            break
    return [int(end)]


def _applied(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], *, where: str, **options: Any) -> Any:
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        date = "".join(f" | replace('%{code}', '{value}')" for code, value in _TODAY.items())
        template = f"{{% macro strftime_now(format) %}}{{{{ format{date} }}}}{{% endmacro %}}{template}"
    conversation = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        return tokenizer.apply_chat_template(conversation, chat_template=template, **options)
    except TemplateError as error:
        roles = ", ".join(turn.role for turn in turns)
        raise UserError(f"{where}: the model's chat template refuses the roles {roles}: {error}") from None
