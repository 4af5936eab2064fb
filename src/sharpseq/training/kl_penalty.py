"""The penalty of a latent variable: the weight of its KL divergence, free bits, and a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting, constant, parameters_of
from sharpseq.scoring import length_mask
from sharpseq.training.number_arguments import argument_number


@dataclass(frozen=True)
class KlPenalty(Method):
    r"""The penalty of a latent variable.

    A sequence of T tokens pays :math:`w\,\frac1T \sum_t \max\big(b, \sum_d \max(\lambda, \mathrm{KL}_{td})\big)` nats
    per token. With weight 1 and neither budget nor free bits that is its KL divergence per token, and maximum
    likelihood plus the penalty is the negative evidence lower bound. Warm-up and annealing are schedules:
    ``weight=WarmUp(1.0, until=0.5)``, ``budget=Linear(1.0, 0.0, begin=0.5)``.

    Args:
        weight: w, at least 0.
        free_bits: λ, in nats: the KL of a dimension at a position costs no less if it is below this value.
        budget: b, in nats: the KL of a position costs no less if it is below this value.

    Example:
        >>> from sharpseq.declarations import Linear, WarmUp
        >>> penalty = KlPenalty(weight=WarmUp(1.0, until=0.5), budget=Linear(1.0, 0.0, begin=0.5))
        >>> penalty.at(0.25).weight, penalty.at(0.75).budget
        (0.5, 0.5)

    References:
        Bowman et al. 2016 (warm-up); Kingma et al. 2016, section 4.2 (free bits); Shu et al. 2020 (budget).
    """

    weight: Annotated[Number, Setting("Weight of the KL divergence; 1 is the evidence lower bound.", ge=0)] = 1.0
    free_bits: Annotated[Number, Setting("KL in nats that each dimension has for free at each position.", ge=0)] = 0.0
    budget: Annotated[Number, Setting("KL in nats that each position has for free.", ge=0)] = 0.0

    declaration = Declaration(
        "kl_penalty", "weighted KL divergence of a latent with free bits and a budget", "Kingma et al. 2016"
    )

    @classmethod
    def of(cls, arguments: Any) -> KlPenalty:
        """Return the penalty that training arguments describe.

        Raises:
            ValueError: If one of them is impossible; the message names the argument.
        """
        return cls(**{field: kl_argument(name, getattr(arguments, name)) for name, field in ARGUMENTS.items()})

    def __call__(self, latent_kl: Tensor, num_tokens: Tensor) -> Tensor:
        """Return what each sequence pays, in nats per token, shape (B,).

        Args:
            latent_kl: KL of every position and dimension in nats, shape (B, T, D).
            num_tokens: Lengths in tokens, shape (B,); positions after them cost nothing.
        """
        real = length_mask(num_tokens, width=latent_kl.shape[1])
        weight, free_bits, budget = (constant(value) for value in (self.weight, self.free_bits, self.budget))
        positions = latent_kl.clamp(min=free_bits).sum(-1).clamp(min=budget)
        return weight * positions.masked_fill(~real, 0.0).sum(1) / num_tokens.clamp(min=1)


ARGUMENTS = {"kl_weight": "weight", "free_bits": "free_bits", "kl_budget": "budget"}
"""Which field each training argument is."""


def kl_argument(name: str, value: Any) -> Number:
    """Return a checked training argument of the penalty.

    Raises:
        ValueError: If it is no number or schedule, or out of range.
    """
    return argument_number(name, value, parameters_of(KlPenalty)[ARGUMENTS[name]])
