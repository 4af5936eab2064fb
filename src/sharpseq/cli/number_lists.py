"""Lists of numbers in options, such as ``--k 0.5,1,2``."""

from __future__ import annotations

from sharpseq.errors import UserError
from sharpseq.number_text import N, read_number


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
