"""Convex compositions of the likelihood: losses under which a model puts its probability on its best outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from sharpseq.declarations import Declaration, Example, Method, Number, Setting
from sharpseq.objectives.label_smoothing import smoothed_loss, smoothing_needs
from sharpseq.objectives.objective import PROPERTIES
from sharpseq.objectives.transforms import TRANSFORMS, Exponential, Transform
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores

_FALLS = ("gradcheck", "falls_as_the_probability_rises")


@dataclass(frozen=True)
class ConvexComposition(Method):
    r"""The loss :math:`-f(g)` with :math:`g = \frac1T \log p(y|x)`, label smoothed on request.

    A convex f gives likely sequences a larger weight :math:`f'(g)`, and the optimal distribution is sharper than the
    data. From a random start the weights are close to 0: train with `MaximumLikelihood` first, or let the k of
    `sharpseq.objectives.BoxCox` rise from 0.

    Args:
        transform: An increasing function: `Exponential`, `BoxCox`, `Power`, or any differentiable one of your own.
        label_smoothing: Weight of the uniform distribution, in [0, 1); its term is scaled by the detached f'(g).

    Raises:
        TypeError: If ``transform`` is not callable.
        ValueError: If ``label_smoothing`` is outside [0, 1).

    Example:
        >>> import torch
        >>> from sharpseq import SequenceScores
        >>> scores = SequenceScores(log_prob=torch.tensor([0.0, -2.0]), num_tokens=torch.tensor([4, 2]))
        >>> ConvexComposition(Exponential(1.0))(scores)
        tensor([-1.0000, -0.3679])

    References:
        Shao et al. 2023, "Beyond MLE", equations 10, 12 and 13, section 3.3.2.
    """

    transform: Annotated[Transform, Setting("Increasing function f.", methods=TRANSFORMS)] = field(
        default_factory=Exponential
    )
    label_smoothing: Annotated[Number, Setting("Weight of the uniform distribution.", ge=0, lt=1)] = 0.0

    declaration = Declaration(
        "convex_composition",
        "−f(log p / T) with f exponential, power or your own: sharpens the distribution",
        "Shao et al. 2023, Beyond MLE",
        examples=(
            Example((*PROPERTIES, *_FALLS), {"transform": {"name": "exponential", "k": 2.0}}),
            Example((*PROPERTIES, *_FALLS), {"transform": {"name": "box_cox", "k": 2.0}}),
            Example((*PROPERTIES, *_FALLS), {"transform": {"name": "power", "k": 0.5}}),
            Example((*PROPERTIES, *_FALLS, "equals_maximum_likelihood"), {"transform": {"name": "box_cox", "k": 0.0}}),
            Example(PROPERTIES, {"transform": {"name": "exponential", "k": 2.0}, "label_smoothing": 0.1}),
        ),
    )

    @property
    def needs(self) -> ScoreRequest:
        """What the loss reads beside the log-probabilities."""
        return smoothing_needs(self.label_smoothing)

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        return smoothed_loss(self.transform, scores, label_smoothing=self.label_smoothing)
