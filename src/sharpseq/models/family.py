"""What a family of models declares about itself, in its own file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from sharpseq.declarations import Declaration


@dataclass(frozen=True)
class ModelFamily:
    """A row of the table of model families.

    Args:
        config: Makes a configuration; its `Setting` parameters are the keys that recipes accept.
        model: Makes a model with random weights from a configuration.
        default_decoder: Name of the decoder used by default.
        declaration: Name, one-line description, reference.
        predicts_eos: Whether targets end with EOS, because the model writes until it predicts it.
    """

    config: Callable[..., PreTrainedConfig]
    model: Callable[..., PreTrainedModel]
    default_decoder: str
    declaration: Declaration
    predicts_eos: bool = False
