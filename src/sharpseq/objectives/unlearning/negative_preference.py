"""Negative preference optimisation: gradient ascent that stops by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor
from torch.nn import functional as F

from sharpseq.declarations import Declaration, Number, Setting, constant
from sharpseq.objectives.unlearning.answer_scores import AnswerScores, UnlearningMethod


@dataclass(frozen=True)
class NegativePreference(UnlearningMethod):
    r"""Lower the answers to forget until they are far below what the model before unlearning gave them.

    The loss of an answer of T tokens is :math:`\frac{2}{\beta T} \log\big(1 + u^\beta\big)` with
    :math:`u = \pi(y_f|x) / \pi_{ref}(y_f|x)`: DPO with a rejected answer alone. Its gradient is that of
    `GradientAscent` times :math:`2u^\beta / (1 + u^\beta)`, 1 at the reference and 0 for answers that are forgotten,
    and for β → 0 gradient ascent is left. The division by T, which makes answers of all lengths count alike, is ours.

    Args:
        beta: β, greater than 0: how soon an answer counts as forgotten.

    Example:
        >>> import torch
        >>> from sharpseq.scoring import SequenceScores
        >>> same = torch.tensor([-6.0])
        >>> answers = AnswerScores(SequenceScores(same, torch.tensor([3])), reference_forget=same)
        >>> NegativePreference(beta=2.0)(answers)
        tensor([0.2310])

    References:
        Zhang et al. 2024, "Negative preference optimization", equation 3.
    """

    beta: Annotated[Number, Setting("How soon an answer counts as forgotten; 0 would be never.", gt=0)] = 0.1

    declaration = Declaration(
        "negative_preference", "gradient ascent that fades as answers are forgotten", "Zhang et al. 2024"
    )

    reads_reference: ClassVar[bool] = True

    def __call__(self, answers: AnswerScores) -> Tensor:
        """Return the loss of each prompt.

        Raises:
            ValueError: If there are no scores of the reference.
        """
        if answers.reference_forget is None:
            raise ValueError("`answers` must have scores of the model before unlearning for this method")
        beta, forget = constant(self.beta), answers.forget
        log_ratio = forget.log_prob - answers.reference_forget
        return 2 / beta * F.softplus(beta * log_ratio) / forget.num_tokens.clamp(min=1)
