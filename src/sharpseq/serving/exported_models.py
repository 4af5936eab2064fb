"""Serving one-pass models that were exported for the runtime without torch."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.errors import UserError
from sharpseq.runtime import load
from sharpseq.serving.generator_translator import GeneratorTranslator, Ways
from sharpseq.serving.pair_names import only_pair
from sharpseq.serving.translators import Pair


def load_exported_model(folder: str, pairs: Sequence[Pair]) -> GeneratorTranslator:
    """Load an export; it has one way to write, whatever the quality that a request asks for.

    Args:
        folder: What `sharpseq.integrations.export_openvino` wrote.
        pairs: The pair of languages, one.

    Raises:
        UserError: If the export is broken, a package is missing, or there are several pairs.
    """
    pair = only_pair(folder, pairs)
    try:
        loaded = load(folder)
    except ImportError as error:
        raise UserError(str(error)) from error
    return GeneratorTranslator({pair: Ways(loaded, loaded)})
