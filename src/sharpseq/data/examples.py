"""The parts of a corpus: examples, and messages of a conversation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: Who speaks, in the words of chat templates: ``"system"``, ``"user"`` or ``"assistant"``.
        content: The text of the message.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A source text and the target text it should become.

    Args:
        source: Source text.
        target: Target text to learn from; empty if there is none.
        references: All targets that count as correct in evaluation; ``(target,)`` unless given.
        history: The conversation before the source, for causal language models with a chat prompt.

    Example:
        >>> Example("ein Hund", "a dog")
        Example(source='ein Hund', target='a dog', references=('a dog',), history=())
        >>> Example("either", "IY DH ER", references=("IY DH ER", "AY DH ER")).references
        ('IY DH ER', 'AY DH ER')
    """

    source: str
    target: str
    references: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        """Use the target as the only reference if none is given."""
        if not self.references:
            object.__setattr__(self, "references", (self.target,))
