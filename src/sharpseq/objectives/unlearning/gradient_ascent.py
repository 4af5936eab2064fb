"""Gradient ascent: maximum likelihood backwards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sharpseq.declarations import Declaration
from sharpseq.objectives.unlearning.answer_scores import AnswerScores, UnlearningMethod


@dataclass(frozen=True)
class GradientAscent(UnlearningMethod):
    r"""Minimise the log-probability of the answers to forget, in nats per token.

    The loss :math:`\frac1T \log p(y_f|x)` has no lower bound: few updates, or a pull to retained data, keep the model
    from falling apart. With ``retained: likelihood`` it is known as gradient difference, with ``retained: kl`` as
    KL minimisation.

    Example:
        >>> import torch
        >>> from sharpseq.scoring import SequenceScores
        >>> GradientAscent()(AnswerScores(SequenceScores(torch.tensor([-6.0]), torch.tensor([3]))))
        tensor([-2.])

    References:
        Jang et al. 2023, "Knowledge unlearning"; Maini et al. 2024, TOFU (gradient difference, KL minimisation).
    """

    declaration = Declaration("gradient_ascent", "maximum likelihood backwards, without a bound", "Jang et al. 2023")

    def __call__(self, answers: AnswerScores) -> Tensor:
        """Return the loss of each prompt."""
        return answers.forget.normalized_log_prob()
