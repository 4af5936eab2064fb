"""Keeping output of libraries off the command line."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Silence the progress messages of transformers at every load and save; warnings and errors are still shown."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
