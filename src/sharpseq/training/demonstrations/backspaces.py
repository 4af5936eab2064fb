"""Demonstrations with mistakes that are taken back: a wrong token, then a backspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sharpseq.data import EncodedExample
from sharpseq.training.seeded_draws import seeded_draw


def with_backspaces(
    example: EncodedExample, *, backspace: int, vocab_size: int, rate: float, seed: str, forbidden: Sequence[int] = ()
) -> tuple[EncodedExample, list[bool]]:
    """Put wrong tokens into a target, each followed by a backspace, and say which tokens are the wrong ones.

    Before each token but the first, a mistake is made with probability ``rate``. The wrong token is drawn from the
    whole vocabulary. Wrong tokens stay in sight of the model, as they do when it makes a mistake itself; they are not
    to be learned, the backspaces are.

    Args:
        example: The demonstration.
        backspace: Token id of the backspace.
        vocab_size: Number of tokens V.
        rate: Probability of a mistake before a token, in [0, 1).
        seed: Decides what is drawn, together with the number of the example.
        forbidden: Further token ids that are no mistakes, such as EOS.

    Returns:
        The example with its longer target, and for each token of it whether it is a wrong one.

    Example:
        >>> example = EncodedExample(0, [5], [6, 7, 0])
        >>> noisy, is_wrong = with_backspaces(example, backspace=4, vocab_size=9, rate=0.6, seed="a", forbidden=[0])
        >>> execute_backspaces(noisy.labels, backspace=4) == example.labels, noisy.labels.count(4) == sum(is_wrong)
        (True, True)
    """
    labels: list[int] = []
    is_wrong: list[bool] = []
    for place, token in enumerate(example.labels):
        if place and seeded_draw(f"{seed} mistake {place}", example.index) < rate:
            wrong = int(seeded_draw(f"{seed} token {place}", example.index) * vocab_size)
            if wrong not in (token, backspace, *forbidden):
                labels += [wrong, backspace]
                is_wrong += [True, False]
        labels.append(token)
        is_wrong.append(False)
    return replace(example, labels=labels), is_wrong


def execute_backspaces(tokens: Sequence[int], *, backspace: int) -> list[int]:
    """Return an output with its backspaces executed: each deletes the token before it, and itself.

    A backspace with nothing before it deletes only itself.

    Example:
        >>> execute_backspaces([5, 6, 4, 7, 0], backspace=4)
        [5, 7, 0]
        >>> execute_backspaces([5, 6, 4, 4, 4, 7], backspace=4)
        [7]
    """
    written: list[int] = []
    for token in tokens:
        if token != backspace:
            written.append(token)
        elif written:
            written.pop()
    return written
