"""Maximum likelihood, the usual loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Number, Setting
from sharpseq.objectives.label_smoothing import smoothed_loss, smoothing_needs
from sharpseq.objectives.objective import PROPERTIES
from sharpseq.objectives.transforms import Identity
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores


@dataclass(frozen=True)
class MaximumLikelihood(Method):
    r"""The loss :math:`-\frac1T \log p(y|x)`, label smoothed on request.

    Args:
        label_smoothing: Weight of the uniform distribution, in [0, 1).

    Raises:
        ValueError: If ``label_smoothing`` is outside [0, 1).

    Example:
        >>> import torch
        >>> from sharpseq import SequenceScores
        >>> MaximumLikelihood()(SequenceScores(log_prob=torch.tensor([-6.0]), num_tokens=torch.tensor([3])))
        tensor([2.])

    References:
        Shao et al. 2023, "Beyond MLE", equation 1; Szegedy et al. 2016 for label smoothing.
    """

    label_smoothing: Annotated[Number, Setting("Weight of the uniform distribution.", ge=0, lt=1)] = 0.0

    declaration = Declaration(
        "maximum_likelihood",
        "−log p / T: the usual loss",
        "Szegedy et al. 2016 (label smoothing)",
        examples=(
            Example((*PROPERTIES, "gradcheck", "falls_as_the_probability_rises", "convex_in_logits")),
            Example(PROPERTIES, {"label_smoothing": 0.1}),
        ),
    )

    @property
    def needs(self) -> ScoreRequest:
        """What the loss reads beside the log-probabilities."""
        return smoothing_needs(self.label_smoothing)

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        return smoothed_loss(Identity(), scores, label_smoothing=self.label_smoothing)
