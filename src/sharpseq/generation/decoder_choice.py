"""Which decoder a model takes, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from sharpseq.decoding import DECODERS
from sharpseq.errors import nearest
from sharpseq.models import MODELS, OnePassModel


def family_of(model: PreTrainedModel) -> str:
    """Return the name of the row of `sharpseq.models.MODELS` that a model belongs to; HF models are autoregressive."""
    for name, family in MODELS.items():
        if isinstance(model, OnePassModel) and isinstance(family.model, type) and isinstance(model, family.model):
            return name
    return "autoregressive"


def default_decoder(model: PreTrainedModel) -> str:
    """Return the name of the decoder that is made for a model."""
    return MODELS[family_of(model)].default_decoder


def check_decoder(model: PreTrainedModel, decoder: str, options: Mapping[str, Any]) -> None:
    """Check that a decoder exists, fits a model, and has the options, with values of the right types and in range.

    Args:
        model: The model, or a stand-in with the same methods.
        decoder: Name of a row of `sharpseq.decoding.DECODERS`.
        options: Options of the decoder.

    Raises:
        ValueError: If not; the message names what there is.
    """
    fitting = [name for name, other in DECODERS.items() if isinstance(model, other.model)]
    if decoder not in DECODERS:
        raise ValueError(f"there is no decoder {decoder!r}; {nearest(str(decoder), fitting)}")
    if decoder not in fitting:
        raise ValueError(f"the decoder {decoder} does not fit {type(model).__name__}; valid: {', '.join(fitting)}")
    DECODERS[decoder].check_options(options)
