"""How much of the target a one-pass model is shown in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import nn

from sharpseq.declarations import Declaration, Method, Number, Setting, parameters_of, value_at
from sharpseq.training.number_arguments import argument_number


@dataclass(frozen=True)
class Glancing(Method):
    r"""The share of its wrong tokens that a model is shown in training, never in validation.

    The model decodes once without gradient, its target is aligned to its positions by the best path, and
    :math:`\mathrm{round}(\rho \cdot \text{wrong})` of the positions with a token get its embedding as input in the
    decoding that is trained. What is shown becomes less as the model gets better.

    Args:
        ratio: ρ, in [0, 1]; 0 is ordinary training, to the bit.

    Example:
        >>> from sharpseq.declarations import Linear
        >>> Glancing(Linear(0.5, 0.1, until=0.5)).at(0.25).ratio
        0.3

    References:
        Qian et al. 2021, "Glancing Transformer for non-autoregressive neural machine translation".
    """

    ratio: Annotated[Number, Setting("Share of the wrong tokens that a one-pass model is shown.", ge=0, le=1)] = 0.0

    declaration = Declaration("glancing", "a share of the wrong tokens is shown to the model", "Qian et al. 2021")

    @classmethod
    def of(cls, arguments: Any) -> Glancing:
        """Return the glancing that training arguments describe.

        Raises:
            ValueError: If the ratio is impossible.
        """
        return cls(glancing_ratio(arguments.glancing))

    def forward_arguments(self, model: nn.Module, progress: float) -> dict[str, float]:
        """Return what a model is called with in training.

        Raises:
            ValueError: If the model cannot be shown tokens.
        """
        ratio = value_at(self.ratio, progress)
        if not ratio:
            return {}
        if not getattr(getattr(model, "module", model), "glances", False):
            raise ValueError(
                f"`glancing` shows tokens to one-pass models that align targets (vanilla_nat, ctc, dag); "
                f"{type(model).__name__} is none"
            )
        return {"glance_ratio": ratio}


def glancing_ratio(value: Any) -> Number:
    """Return a checked ratio: a number, a schedule, or a mapping that describes one, linear unless it says otherwise.

    Raises:
        ValueError: If it is none of these or out of range.

    Example:
        >>> glancing_ratio({"start": 0.5, "end": 0.1, "until": 0.5})(0.25)
        0.3
    """
    if isinstance(value, Mapping):
        value = {"schedule": "linear", **value}
    return argument_number("glancing", value, parameters_of(Glancing)["ratio"])
