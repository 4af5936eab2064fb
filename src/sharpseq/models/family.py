"""What a family of models declares of itself, in its own file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from sharpseq.declarations import Declaration


@dataclass(frozen=True)
class ModelFamily:
    """A row of the table of model families.

    Args:
        config: Makes a configuration; its `Setting` parameters are what recipes may say.
        model: Makes a model with fresh weights from a configuration.
        default_decoder: Name of the decoder that is made for it.
        declaration: Name, one line, reference.
        predicts_eos: Whether targets end with EOS, because the model writes until it predicts it.
    """

    config: Callable[..., PreTrainedConfig]
    model: Callable[..., PreTrainedModel]
    default_decoder: str
    declaration: Declaration
    predicts_eos: bool = False
