"""Convex-composition losses, of which maximum likelihood is the limit."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from sharpseq.objectives.transforms import Identity, Transform, derivative
from sharpseq.scoring.sequence_scores import SequenceScores


@dataclass(frozen=True)
class ConvexComposition:
    """A loss −f(log p/T) of each sequence; made by `convex_composition` and `maximum_likelihood`."""

    transform: Transform = field(default_factory=Identity)
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.transform):
            raise TypeError(f"`transform` must be callable; got {self.transform!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1); got {self.label_smoothing}")

    @property
    def needs_uniform(self) -> bool:
        """Whether the loss reads ``uniform_log_prob``."""
        return self.label_smoothing > 0

    def __call__(self, scores: SequenceScores) -> Tensor:
        """Return the loss of each sequence, shape (B,), not reduced."""
        g = scores.normalized_log_prob()
        loss = -self.transform(g)
        if not self.needs_uniform:
            return loss
        if scores.uniform_log_prob is None:
            raise ValueError("`label_smoothing` needs scores with `uniform_log_prob`: ask the model for `uniform=True`")
        uniform = scores.uniform_log_prob / scores.num_tokens.clamp(min=1)
        smoothing_loss = -derivative(self.transform, g) * uniform
        return (1 - self.label_smoothing) * loss + self.label_smoothing * smoothing_loss


def convex_composition(transform: Transform, *, label_smoothing: float = 0.0) -> ConvexComposition:
    r"""Return the objective :math:`-f(g)` with :math:`g = \frac1T \log p(y|x)`.

    With label smoothing :math:`\epsilon` the loss is :math:`-(1-\epsilon) f(g) - \epsilon\,[f'(g)]\,u`, where u is
    the length-normalised log-probability of the uniform distribution and the weight in brackets is detached, so that
    both terms keep their ratio whatever f is.

    A convex f gives likely sequences a larger weight :math:`f'(g)`, and the optimal distribution is sharper than the
    data. From a random start the weights are close to 0: warm up with `maximum_likelihood`, or anneal
    ``exponential(k, normalized=True)`` from k = 0.

    Args:
        transform: An increasing function: `exponential`, `power`, or any differentiable one of your own.
        label_smoothing: Weight of the uniform distribution, in [0, 1).

    Returns:
        A callable that takes `SequenceScores` and returns the loss of each sequence, shape (B,), not reduced.

    Raises:
        TypeError: If ``transform`` is not callable.
        ValueError: If ``label_smoothing`` is outside [0, 1).

    Example:
        >>> import torch
        >>> from sharpseq import SequenceScores, exponential
        >>> scores = SequenceScores(log_prob=torch.tensor([0.0, -2.0]), num_tokens=torch.tensor([4, 2]))
        >>> convex_composition(exponential(1.0))(scores)
        tensor([-1.0000, -0.3679])

    References:
        Shao et al. 2023, "Beyond MLE", equations 10, 12 and 13, section 3.3.2.
    """
    return ConvexComposition(transform, label_smoothing)


def maximum_likelihood(*, label_smoothing: float = 0.0) -> ConvexComposition:
    r"""Return the objective :math:`-\frac1T \log p(y|x)`, label smoothed on request.

    Example:
        >>> import torch
        >>> from sharpseq import SequenceScores
        >>> maximum_likelihood()(SequenceScores(log_prob=torch.tensor([-6.0]), num_tokens=torch.tensor([3])))
        tensor([2.])

    References:
        Shao et al. 2023, "Beyond MLE", equation 1; Szegedy et al. 2016 for label smoothing.
    """
    return ConvexComposition(Identity(), label_smoothing)
