"""The MODEL argument: a folder or hub name, and how to decode with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharpseq.cli.quiet import quiet_libraries
from sharpseq.cli.settings import parse_settings
from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.generation import SequenceGenerator


def load_generator(
    model: str,
    *,
    decoder: str | None,
    settings: Sequence[str],
    rescore_with: str | None = None,
    max_tokens: int = 4000,
) -> SequenceGenerator:
    """Load a model with a decoder and its settings.

    Raises:
        UserError: If the model cannot be loaded, or the decoder or a setting does not fit it.
    """
    quiet_libraries()
    from sharpseq.decoding import autoregressive_rescorer
    from sharpseq.generation import SequenceGenerator, load_model

    options: dict[str, Any] = parse_settings(settings)
    teacher: Any = load_model(rescore_with) if rescore_with else None
    rescorer = autoregressive_rescorer(teacher) if teacher else None
    try:
        return SequenceGenerator.from_pretrained(
            model, decoder=decoder, options=options, rescorer=rescorer, max_tokens=max_tokens
        )
    except ValueError as error:
        raise UserError(str(error)) from error
