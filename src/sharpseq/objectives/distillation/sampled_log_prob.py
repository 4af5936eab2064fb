"""Distillation from the log-probabilities that a teacher gives to a few tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.objectives.distillation.distribution_pair import NO_LABEL, DistributionPair


@dataclass(frozen=True)
class SampledLogProb(Method):
    r"""Half the squared difference of log-probabilities, of the target token or of all tokens that are known.

    For targets that the teacher has sampled itself, with its log-probabilities (``of: label``):
    :math:`\frac12 (\log q_y - \log p_y)^2`. Its gradient is 0 for every sample once the student is right, where that of
    cross-entropy is 0 only on average. With ``of: known``, :math:`\sum_v p_v \frac12 (\log q_v - \log p_v)^2` over the
    vocabulary, or over a stored top-k and all other tokens together.

    Args:
        of: ``label`` or ``known``.

    Raises:
        ValueError: If ``of`` is something else; or a position has no target token, and it is ``label``.

    References:
        "Efficient knowledge distillation from sampled probabilities" (ESEL, SEL_ptl); ``known`` is ours.
    """

    of: Annotated[str, Setting("`label`, the target token alone, or `known`, every token weighted by the teacher.")] = (
        "label"
    )

    declaration = Declaration(
        "sampled_log_prob", "squared difference of log-probabilities of sampled tokens (#15)", "ESEL-KD 2025"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of not in ("label", "known"):
            raise ValueError(f"`of` must be label or known; got {self.of!r}")

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,)."""
        if self.of == "label":
            if (pair.labels == NO_LABEL).any():
                raise ValueError("`sampled_log_prob` of `label` reads the target token, and frames of CTC have none")
            return (pair.label_model - pair.label_target) ** 2 / 2
        is_known = pair.target > -torch.inf
        difference = torch.where(is_known, pair.model, 0.0) - torch.where(is_known, pair.target, 0.0)
        return (pair.target.exp() * difference**2 / 2).sum(1)
