"""Entropy minimisation at inference: a few gradient steps on the logits make each prediction surer of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.processors.processor import DistributionProcessor

_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class EntropyMinimisation(DistributionProcessor):
    r"""Lower the entropy of each distribution by steps of Adam on its logits z, until it is below a floor.

    Minimised is :math:`H(p) + \kappa\, KL(p_0 \| p)` with p = softmax(z) and p_0 the model's distribution. Exactly the
    tokens with :math:`p > e^{-H}` gain by the first step, as :math:`\partial H/\partial z_v = -p_v (\log p_v + H)`.
    Adam's step does not depend on the size of a gradient, so the learning rate is in logits, and the result is no
    temperature. Ranks are kept with the published settings; with a ``learning_rate`` above 0.1 or a ``kl_weight`` above
    0.05, tokens far from the best may change places.

    Each row is on its own; the paper's code runs batches of one.

    Args:
        steps: Most steps, at least 1.
        learning_rate: In logits, in (0, 1].
        kl_weight: κ, at least 0.
        entropy_floor: No further step is made below this entropy, in nats; at least 0.

    Example:
        >>> scores = torch.tensor([[2.0, 1.0, 0.0], [9.0, 0.0, 0.0]])
        >>> EntropyMinimisation()(torch.empty(2, 0), scores).exp()
        tensor([[8.4407e-01, 1.1388e-01, 4.2053e-02],
                [9.9975e-01, 1.2338e-04, 1.2338e-04]])

    References:
        Agarwal et al. 2025, "The unreasonable effectiveness of entropy minimization in LLM reasoning", EM-INF (#35).
    """

    steps: Annotated[int, Setting("Most gradient steps.", ge=1)] = 5
    learning_rate: Annotated[float, Setting("Step of Adam, in logits.", gt=0, le=1)] = 0.1
    kl_weight: Annotated[float, Setting("Weight of the KL divergence from the model's distribution.", ge=0)] = 0.001
    entropy_floor: Annotated[float, Setting("Entropy in nats below which no step is made.", ge=0)] = 0.3

    declaration = Declaration(
        "em_inf",
        "a few gradient steps on the logits lower the entropy of each prediction (EM-INF, #35)",
        "Agarwal et al. 2025",
        maturity="experimental",
    )
    cost: ClassVar[str] = "no pass; four numbers a logit"
    keeps_best: ClassVar[bool] = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities (R, V); see the base."""
        log_probs = at_least_float32(scores).log_softmax(-1)
        first, mean, square = log_probs.exp(), torch.zeros_like(log_probs), torch.zeros_like(log_probs)
        for step in range(1, self.steps + 1):
            probs = log_probs.exp()
            entropies = torch.special.entr(probs).sum(-1, keepdim=True)
            is_open = entropies >= self.entropy_floor
            if not is_open.any():
                break
            gradient = torch.special.entr(probs) - probs * entropies + self.kl_weight * (probs - first)
            mean = mean.lerp(gradient, 1 - _DECAY)
            square = square.lerp(gradient.square(), 1 - _SQUARE_DECAY)
            size = (square / (1 - _SQUARE_DECAY**step)).sqrt() + _EPSILON
            change = self.learning_rate * mean / (1 - _DECAY**step) / size
            log_probs = torch.where(is_open, log_probs - change, log_probs).log_softmax(-1)
        return log_probs.to(scores.dtype)


def at_least_float32(scores: Tensor) -> Tensor:
    """Return scores in a precision that sums over a vocabulary can be taken in."""
    return scores if scores.dtype == torch.float64 else scores.float()
