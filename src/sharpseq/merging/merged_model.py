r"""A network whose weights are :math:`\theta_0 + \sum_t \lambda_{t,\ell} (\theta_t - \theta_0)`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_LAYER = re.compile(r"(.*?\.\d+)\.")


def layer_of(name: str) -> str:
    """Return the layer that a parameter belongs to; one outside the layers belongs to its own module.

    Example:
        >>> layer_of("model.layers.3.mlp.up_proj.weight"), layer_of("model.embed_tokens.weight")
        ('model.layers.3', 'model.embed_tokens')
    """
    found = _LAYER.match(name)
    return found[1] if found else name.rpartition(".")[0] or name


class MergedModel:
    r"""A network between a base and the task models that were fine-tuned from it.

    There is one coefficient for each task, or for each task and layer. `set` computes the network's weights; after a
    backward pass of the network, `take_gradient` gives the gradient of the coefficients,
    :math:`\partial L / \partial \lambda_{t,\ell} = \langle \nabla_{\theta_\ell} L, \theta_{t,\ell} - \theta_{0,\ell}
    \rangle`. The gradient of each weight is reduced to these numbers and dropped as soon as it is known, so memory
    holds the base, each task and the network, and never the gradients of all weights.

    Args:
        base: :math:`\theta_0` by name.
        tasks: :math:`\theta_t` by name.
        template: The model whose configuration the network has; it is copied.
        per_layer: Whether each layer has coefficients of its own.

    Attributes:
        network: The network, in evaluation mode.
        layers: Names of the layers, one for the whole model where they share their coefficients.
    """

    def __init__(
        self,
        base: Mapping[str, Tensor],
        tasks: Sequence[Mapping[str, Tensor]],
        *,
        template: PreTrainedModel,
        per_layer: bool,
    ) -> None:
        self._base, self._tasks = base, tasks
        network: Any = copy.deepcopy(template).eval().requires_grad_(True)
        self.network: PreTrainedModel = network
        named = {name: layer_of(name) if per_layer else "all weights" for name in base}
        self.layers = list(dict.fromkeys(named.values()))
        self._columns = {name: self.layers.index(layer) for name, layer in named.items()}
        self._gradient = self.coefficients(0.0)
        for name, weight in network.named_parameters():
            weight.register_post_accumulate_grad_hook(partial(self._reduce, name))

    def coefficients(self, value: float) -> Tensor:
        """Return coefficients that are all the same, shape (tasks, layers), float64."""
        return torch.full((len(self._tasks), len(self.layers)), value, dtype=torch.float64)

    @torch.no_grad()
    def set(self, coefficients: Tensor) -> None:
        """Compute the network's weights.

        Args:
            coefficients: Shape (tasks, layers).
        """
        values = coefficients.tolist()
        for name, weight in self.network.named_parameters():
            origin = self._base[name]
            weight.copy_(origin)
            for task, row in zip(self._tasks, values, strict=True):
                weight.add_(task[name] - origin, alpha=row[self._columns[name]])

    def take_gradient(self) -> Tensor:
        """Return the gradient of the coefficients since the last call, shape (tasks, layers)."""
        found, self._gradient = self._gradient, self.coefficients(0.0)
        return found

    @torch.no_grad()
    def _reduce(self, name: str, weight: Tensor) -> None:
        gradient, weight.grad = weight.grad, None
        if gradient is None:
            return
        for row, task in enumerate(self._tasks):
            moved = task[name] - self._base[name]
            self._gradient[row, self._columns[name]] += (gradient * moved).sum(dtype=torch.float64).cpu()
