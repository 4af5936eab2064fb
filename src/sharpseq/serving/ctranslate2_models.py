"""Serving autoregressive models that were exported to CTranslate2."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.errors import UserError
from sharpseq.integrations import Ctranslate2Generator
from sharpseq.serving.decoding_ways import BEST, OTHERS
from sharpseq.serving.generator_translator import GeneratorTranslator, Ways
from sharpseq.serving.pair_names import names_of_pairs, only_pair
from sharpseq.serving.translators import Pair

_FAMILY = "autoregressive"


def load_ctranslate2_model(folder: str, pairs: Sequence[Pair]) -> GeneratorTranslator:
    """Load an export.

    Args:
        folder: What `sharpseq.integrations.export_ctranslate2` wrote.
        pairs: The pair of languages; the engine is loaded for one.

    Raises:
        UserError: If the export is broken, does not know the languages, or there are several pairs.
    """
    pair = only_pair(folder, pairs)
    try:
        loaded = Ctranslate2Generator(folder, **names_of_pairs(folder, pairs)[pair])
    except ImportError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    # What `sharpseq tune` chose before the export is the best there is.
    best = loaded if loaded.options["num_beams"] > 1 else loaded.with_options(**BEST[_FAMILY].options)
    others = tuple(loaded.with_options(**way.options) for way in OTHERS[_FAMILY])
    return GeneratorTranslator({pair: Ways(loaded.with_options(num_beams=1), best, others)})
