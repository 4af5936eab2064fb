"""Generalised cross-entropy: between cross-entropy and the mean absolute error, robust to wrong targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Number, Setting, constant
from sharpseq.objectives.comp_sum import comp_sum_losses
from sharpseq.objectives.objective import PROPERTIES
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores


@dataclass(frozen=True)
class GeneralizedCrossEntropy(Method):
    r"""The loss :math:`\frac1T \sum_t (1 - p_t^q) / q` of the tokens of a sequence.

    A token's gradient is that of cross-entropy times :math:`p_t^q`, so what the model finds impossible, such as a wrong
    target, pulls less. q = 0 is maximum likelihood, q = 1 the mean absolute error; it is `CompSum` with
    :math:`\tau = q + 1`. Under it a token that starts improbable stays so: train with `MaximumLikelihood` first, or let
    q rise from 0.

    Args:
        q: Robustness, at least 0; the paper uses 0.7.

    Raises:
        ValueError: If ``q`` is not finite or negative. When called: if the scores lack those of single tokens (CTC).

    Example:
        >>> import torch
        >>> from sharpseq.scoring import TokenScores
        >>> tokens = TokenScores(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2, dtype=torch.bool))
        >>> GeneralizedCrossEntropy(q=1.0)(tokens.to_sequences())
        tensor([0.6250])

    References:
        Zhang and Sabuncu 2018, equation 6; Mao, Mohri and Zhong 2023, "Cross-entropy loss functions" (#112).
    """

    q: Annotated[Number, Setting("Robustness; 0 is maximum likelihood, 1 the mean absolute error.", ge=0)] = 0.7

    declaration = Declaration(
        "generalized_cross_entropy",
        "mean over tokens of (1 − p^q) / q: from cross-entropy (q = 0) to the mean absolute error (q = 1)",
        "Zhang and Sabuncu 2018; Mao et al. 2023",
        maturity="experimental",
        examples=(
            Example((*PROPERTIES, "gradcheck", "falls_as_the_probability_rises")),
            Example((*PROPERTIES, "gradcheck", "falls_as_the_probability_rises"), {"q": 1.0}),
            Example((*PROPERTIES, "equals_maximum_likelihood"), {"q": 0.0}),
        ),
    )
    needs: ClassVar[ScoreRequest] = ScoreRequest(token_log_probs=True)

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        tokens = scores.token_scores()
        losses = comp_sum_losses(tokens.log_probs, power=constant(self.q))
        return tokens.sum_over_tokens(losses) / scores.num_tokens.clamp(min=1)
