"""Plackett-Luce distillation: the student learns the teacher's ranking of the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Setting
from sharpseq.objectives.distillation.distribution_pair import NO_LABEL, DistributionPair


@dataclass(frozen=True)
class PlackettLuce(Method):
    r"""The negative log-likelihood of a ranking, each choice weighted by the teacher's probability.

    The ranking σ has the target token first and then all others by falling probability of the teacher.
    :math:`-\sum_k p_{\sigma_k} \log \frac{q_{\sigma_k}}{\sum_{j \ge k} q_{\sigma_j}}`. The first term is
    cross-entropy with the teacher's confidence as its weight. It is convex in the student's logits.

    Args:
        depth: Choices that are counted; None for all. The cost of sorting stays; what is saved is noise from the
            teacher's ranking of tokens that it never writes.

    Raises:
        ValueError: If a position has no target token.

    References:
        "Knowledge distillation through the lens of the Plackett-Luce model" (PLD), 2025.
    """

    depth: Annotated[int | None, Setting("Choices of the ranking that are counted; all by default.", ge=1)] = None

    declaration = Declaration(
        "plackett_luce", "likelihood of the teacher's ranking with the target token first (#61)", "PLD 2025"
    )

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,)."""
        if (pair.labels == NO_LABEL).any():
            raise ValueError("`plackett_luce` puts the target token first, and frames of CTC have none")
        first = pair.target.scatter(1, pair.labels[:, None], torch.inf)
        order = first.argsort(dim=1, descending=True, stable=True)
        chosen = pair.model.gather(1, order)
        weights = pair.target.gather(1, order).exp()
        remaining = chosen.flip(1).logcumsumexp(1).flip(1)
        terms = weights * (remaining - torch.where(weights > 0, chosen, remaining))
        return terms[:, : self.depth].sum(1)
