"""Loading what a server serves, by the kind of folder."""

from __future__ import annotations

from collections.abc import Sequence

from sharpseq.runtime.manifest import is_export
from sharpseq.serving.model_choice import ModelChoice
from sharpseq.serving.translators import Pair, Quality, Translator


def load_models(choices: Sequence[ModelChoice]) -> dict[tuple[Pair, Quality], Translator]:
    """Load models.

    Args:
        choices: The models with what they serve.

    Returns:
        The model of each pair and quality; a pair that is given for one quality only has it for both.

    Raises:
        UserError: If one cannot be loaded or does not know its languages.
    """
    given: dict[tuple[Pair, Quality], Translator] = {}
    for choice in choices:
        translator = _load(choice)
        given |= {(pair, quality): translator for pair in choice.pairs for quality in choice.qualities}
    qualities: tuple[Quality, Quality] = ("fast", "best")
    served: dict[tuple[Pair, Quality], Translator] = {}
    for pair in dict.fromkeys(pair for pair, _ in given):
        for quality, other in (qualities, qualities[::-1]):
            served[pair, quality] = given.get((pair, quality)) or given[pair, other]
    return served


def _load(choice: ModelChoice) -> Translator:
    if is_export(choice.folder):
        from sharpseq.serving.exported_models import load_exported_model

        return load_exported_model(choice.folder, choice.pairs)
    from sharpseq.integrations import is_ctranslate2_export
    from sharpseq.serving.ctranslate2_models import load_ctranslate2_model
    from sharpseq.serving.torch_models import load_torch_model

    load = load_ctranslate2_model if is_ctranslate2_export(choice.folder) else load_torch_model
    return load(choice.folder, choice.pairs)
