"""Comp-sum losses: one family with cross-entropy, generalised cross-entropy and the mean absolute error in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Number, Setting, constant
from sharpseq.objectives.objective import PROPERTIES
from sharpseq.objectives.tangents import STEEPEST, with_tangents
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores

_FALLS = ("gradcheck", "falls_as_the_probability_rises")


@dataclass(frozen=True)
class CompSum(Method):
    r"""The loss :math:`\frac1T \sum_t \Phi_\tau(1/p_t - 1)`.

    Here :math:`\Phi_\tau(v) = ((1+v)^{1-\tau} - 1) / (1-\tau)`, and log(1 + v) for :math:`\tau = 1`. For a softmax,
    :math:`1/p_t - 1 = \sum_{k \ne y} e^{z_k - z_y}` is a sum over the other tokens, hence the name; the loss of a token
    is :math:`(1 - p^{\tau-1}) / (\tau - 1)`, and its gradient that of cross-entropy times :math:`p^{\tau-1}`.

    - :math:`\tau = 0` is the sum-exponential loss: what the model finds impossible pulls most.
    - :math:`\tau = 1` is the logistic loss, cross-entropy: maximum likelihood.
    - :math:`1 < \tau < 2` is `GeneralizedCrossEntropy` with :math:`q = \tau - 1`.
    - :math:`\tau = 2` is the mean absolute error, robust to wrong targets and slow to learn.

    A loss within t of the best possible one makes the most probable token wrong at most
    :math:`\sqrt{2^\tau (2 - \tau) t}` more often than it must be for :math:`\tau < 1`, and
    :math:`\sqrt{2 V^{\tau - 1} t}` for :math:`1 \le \tau < 2`: above 1 the guarantee gets weaker as the vocabulary
    grows. For :math:`\tau < 1` the weight :math:`p^{\tau-1}` of a token is held at :math:`e^{30}` where it would be
    larger, which the paper does not do: the loss goes on in a straight line in log p.

    Args:
        tau: τ, at least 0.

    Raises:
        ValueError: If ``tau`` is not finite or negative. When called: if the scores lack those of single tokens (CTC).

    Example:
        >>> from sharpseq.scoring import TokenScores
        >>> tokens = TokenScores(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2, dtype=torch.bool))
        >>> CompSum(tau=0.0)(tokens.to_sequences())
        tensor([2.])

    References:
        Mao, Mohri and Zhong 2023, "Cross-entropy loss functions", section 3 (#112).
    """

    tau: Annotated[Number, Setting("0 sum-exponential, 1 cross-entropy, 2 mean absolute error.", ge=0)] = 1.5

    declaration = Declaration(
        "comp_sum",
        "mean over tokens of (1 − p^(τ−1)) / (τ − 1): sum-exponential, cross-entropy, mean absolute error (#112)",
        "Mao et al. 2023",
        maturity="experimental",
        examples=(
            Example((*PROPERTIES, *_FALLS)),
            Example((*PROPERTIES, *_FALLS, "convex_in_logits"), {"tau": 0.0}),
            Example((*PROPERTIES, *_FALLS, "convex_in_logits"), {"tau": 0.5}),
            Example((*PROPERTIES, *_FALLS, "convex_in_logits", "equals_maximum_likelihood"), {"tau": 1.0}),
            Example((*PROPERTIES, *_FALLS), {"tau": 2.0}),
        ),
    )
    needs: ClassVar[ScoreRequest] = ScoreRequest(token_log_probs=True)

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        tokens = scores.token_scores()
        losses = comp_sum_losses(tokens.log_probs, power=constant(self.tau) - 1)
        return tokens.sum_over_tokens(losses) / scores.num_tokens.clamp(min=1)


def comp_sum_losses(log_probs: Tensor, *, power: float) -> Tensor:
    """Return (1 − p^power) / power for each log p, in any shape; −log p for a power of 0.

    Args:
        log_probs: log p in nats, at most 0.
        power: τ − 1, at least −1.

    Example:
        >>> comp_sum_losses(torch.tensor([0.25]).log(), power=-0.5)
        tensor([2.])
    """
    if power == 0:
        return -log_probs
    return -with_tangents(
        lambda log_p: torch.expm1(power * log_p) / power,
        lambda log_p: torch.exp(power * log_p),
        log_probs,
        low=STEEPEST / power if power < 0 else None,
    )
