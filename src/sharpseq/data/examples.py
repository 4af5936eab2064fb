"""What a corpus is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: Who speaks, as chat templates name it: ``"system"``, ``"user"``, ``"assistant"``.
        content: What is said.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One source text with the text it should become.

    Args:
        source: Source text.
        target: Target text to learn from; empty where there is none.
        references: Every target that counts as right in evaluation; ``(target,)`` unless given.
        history: What was said before the source, for causal language models with a chat prompt.

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
        """Let the target stand as the only reference when none is given."""
        if not self.references:
            object.__setattr__(self, "references", (self.target,))
