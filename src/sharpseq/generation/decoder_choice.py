"""Which decoder a model takes, and with which options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from transformers import PreTrainedModel

from sharpseq.decoding import DECODERS
from sharpseq.errors import nearest
from sharpseq.models import MODELS, OnePassModel


def family_of(model: PreTrainedModel) -> str:
    """Return the name of the row of `sharpseq.models.MODELS` that a model belongs to; HF seq2seq is autoregressive."""
    for name, spec in MODELS.items():
        if isinstance(model, OnePassModel) and isinstance(spec.model, type) and isinstance(model, spec.model):
            return name
    return "autoregressive"


def default_decoder(model: PreTrainedModel) -> str:
    """Return the name of the decoder that is made for a model."""
    return MODELS[family_of(model)].default_decoder


def check_decoder(family: str, decoder: str, options: Mapping[str, Any]) -> None:
    """Check that a decoder exists, fits a family of models, and has the options, with values of the right types.

    Args:
        family: Name of a row of `sharpseq.models.MODELS`.
        decoder: Name of a row of `sharpseq.decoding.DECODERS`.
        options: Options of the decoder, whose ranges it checks itself; see `SequenceGenerator.try_out`.

    Raises:
        ValueError: If not; the message names what there is.
    """
    kind = MODELS[family].kind
    fitting = [name for name, spec in DECODERS.items() if kind in spec.model_kinds]
    if decoder not in DECODERS:
        raise ValueError(f"there is no decoder {decoder!r}; {nearest(str(decoder), fitting)}")
    if decoder not in fitting:
        raise ValueError(f"the decoder {decoder} does not fit a model of kind {kind}; valid: {', '.join(fitting)}")
    spec = DECODERS[decoder]
    types = get_type_hints(spec.decode)
    for name, value in options.items():
        if name not in spec.options:
            hint = nearest(str(name), spec.options) if spec.options else "it has none"
            raise ValueError(f"`{name}` is not an option of the decoder {decoder}; {hint}")
        _check_type(name, value, types[name])


def _check_type(name: str, value: object, annotation: Any) -> None:
    accepted = get_args(annotation) or (annotation,)
    # A boolean is no number, a whole number is one, and NaN is none.
    if type(value) in accepted and (not isinstance(value, float) or math.isfinite(value)):
        return
    if float in accepted and type(value) is int:
        return
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    raise ValueError(f"`{name}` must be {' or '.join(words[kind] for kind in accepted)}; got {value!r}")
