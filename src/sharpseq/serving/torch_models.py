"""Serving model folders with torch: one set of weights, several ways to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpseq.decoding import DECODERS
from sharpseq.errors import UserError
from sharpseq.generation import (
    SequenceGenerator,
    default_decoder,
    family_of,
    language_model_of,
    model_folder,
    read_tuned_decoding,
)
from sharpseq.serving.decoding_ways import BEST, OTHERS, Way
from sharpseq.serving.generator_translator import GeneratorTranslator, Ways
from sharpseq.serving.pair_names import names_of_pairs
from sharpseq.serving.translators import Pair


def load_torch_model(name_or_path: str, pairs: Sequence[Pair]) -> GeneratorTranslator:
    """Load a run folder, a model folder or a model of the Hub, to translate between languages.

    Args:
        name_or_path: See `sharpseq.SequenceGenerator.from_pretrained`.
        pairs: The pairs of languages; several only for a multilingual model.

    Raises:
        UserError: If there is no model, it is broken, or it does not know the languages.
    """
    folder = model_folder(name_or_path)
    try:
        names = names_of_pairs(folder, pairs)
        loaded = SequenceGenerator.from_pretrained(folder, is_tuned=False, **names[pairs[0]])
        ways = {pair: _ways(loaded, folder, names[pair]) for pair in pairs}
    except ValueError as error:
        raise UserError(f"{name_or_path}: {error}") from error
    return GeneratorTranslator(ways)


def _ways(loaded: SequenceGenerator, folder: str, names: Mapping[str, Any]) -> Ways:
    family, tuned = family_of(loaded.model), read_tuned_decoding(Path(folder))
    fast, best = Way(default_decoder(loaded.model)), BEST[family]
    if tuned is not None:
        best = Way(tuned.decoder, tuned.options)
        if tuned.decoder == fast.decoder and DECODERS[tuned.decoder].remember is not None:
            # These options steer what follows the network, which costs no time.
            fast = best

    def generator(way: Way) -> SequenceGenerator:
        objects: dict[str, Any] = {}
        if DECODERS[way.decoder].takes_language_model:
            objects["language_model"] = language_model_of(
                folder, loaded.tokenizer, vocab_size=loaded.model.config.vocab_size, device=loaded.model.device
            )
        return SequenceGenerator(
            loaded.model, loaded.tokenizer, decoder=way.decoder, options=way.options, **objects, **names
        )

    made = generator(fast), generator(best)
    for each in made:
        each.try_out()
    return Ways(*made, tuple(generator(way) for way in OTHERS[family]))
