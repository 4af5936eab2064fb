"""Lists of numbers: options such as ``--k 0.5,1,2``, and line numbers in messages."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.errors import UserError
from sharpseq.number_text import N, read_number

_MOST_LINES = 10


def read_numbers(text: str, kind: type[N], *, option: str, **limits: float) -> list[N]:
    """Read the numbers of an option, with commas between them.

    Args:
        text: Value of the option.
        kind: ``int`` or ``float``.
        option: Name of the option, for the message.
        **limits: See `sharpseq.number_text.read_number`.

    Raises:
        UserError: If one of them is not a number, or is outside the limits.

    Example:
        >>> read_numbers("0,1, 4", int, option="--at", least=0)
        [0, 1, 4]
    """
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(read_number(part, kind, **limits))
        except ValueError as error:
            raise UserError(f"{option} {text}: {part.strip()!r} is not {error}; give numbers with commas") from None
    return numbers


def line_list(numbers: Sequence[int]) -> str:
    """Return the first line numbers of a list, as messages show them.

    Example:
        >>> line_list([3, 8]), line_list(range(1, 12))
        ('3, 8', '1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …')
    """
    return ", ".join(map(str, numbers[:_MOST_LINES])) + (", …" if len(numbers) > _MOST_LINES else "")
