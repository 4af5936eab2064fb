"""The state that a model is decoded in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(model: object) -> Iterator[None]:
    """Decode without gradients and without dropout, and leave the model as it was.

    It is `torch.no_grad` and not `torch.inference_mode`, because an objective that trains on the model's own outputs
    must be able to look them up in an embedding that requires a gradient.

    Args:
        model: The model; what is not an `nn.Module` is only spared the gradients.

    Example:
        >>> dropout = nn.Dropout()
        >>> with inference(dropout):
        ...     dropout.training
        False
        >>> dropout.training
        True
    """
    # Module by module: a part that was frozen in evaluation mode must not wake up in training mode.
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
