"""An exponential moving average of the weights, which is what is validated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from sharpseq.errors import UserError

FILE = "ema.safetensors"


class WeightEma(TrainerCallback):
    r"""After each update, :math:`\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta`, in at least float32.

    The decay rises to its value: after t updates it is at most (1 + t) / (10 + t), or the first weights would count for
    thousands of updates.

    Args:
        model: The model that is trained; its parameters with a gradient are averaged.
        decay: d, in (0, 1); 0.999 averages over about the last thousand updates.

    References:
        Polyak and Juditsky 1992 (averaging); the warm-up is that of TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._means: dict[str, Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start from the first weights, unless a checkpoint was loaded."""
        if not self._means:
            self._means = {
                name: each.detach().to(torch.promote_types(each.dtype, torch.float32), copy=True)
                for name, each in self._parameters.items()
            }

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the weights after an update."""
        made = state.global_step + 1
        decay = min(self.decay, (1 + made) / (10 + made))
        for name, parameter in self._parameters.items():
            self._means[name].lerp_(parameter.to(self._means[name]), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the average, and its own weights back afterwards, to the bit."""
        own = {name: each.detach().clone() for name, each in self._parameters.items()}
        self._copy(self._means or own)
        try:
            yield
        finally:
            self._copy(own)

    def finish(self, checkpoint: str | None) -> None:
        """Give the model the average for good: that of a checkpoint, or that of now."""
        if checkpoint is not None:
            self.load(Path(checkpoint))
        self._copy(self._means)
        self._means = {}

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        save_file({name: each.contiguous() for name, each in self._means.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read the average of a checkpoint.

        Raises:
            UserError: If it has none, or one of another model.
        """
        path = folder / FILE
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is missing or broken; delete the checkpoint {folder} and train on") from error
        if {name: each.shape for name, each in found.items()} != {n: p.shape for n, p in self._parameters.items()}:
            raise UserError(f"{path} is of another model; delete the checkpoint {folder} and train on")
        self._means = {name: found[name].to(each.device) for name, each in self._parameters.items()}

    @torch.no_grad()
    def _copy(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            self._parameters[name].copy_(weight)
