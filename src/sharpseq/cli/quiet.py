"""Keeping libraries from talking over the command line."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Silence what transformers says at every load and save; warnings and errors still come through."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
