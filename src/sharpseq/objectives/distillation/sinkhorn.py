"""Sinkhorn distillation: the cost of carrying the teacher's rows over to the student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Method, Number, Setting
from sharpseq.divergences import KL
from sharpseq.objectives.distillation.distribution_pair import DistributionPair


@dataclass(frozen=True)
class SinkhornDistillation(Method):
    r"""Forward KL plus the entropic transport cost between the distributions of neighbouring positions.

    In each group of b positions, :math:`C_{ij} = \|q_i - p_j\|_1`, :math:`K = e^{-C/\varepsilon}`, whose rows and
    columns are normalised in turns, gives a plan P, and position i adds :math:`\sum_j P_{ij} C_{ij}`. The cost does not
    know which teacher row belongs to which position, so it makes sense only beside the KL divergence. Gradients go
    through P and C. Groups are blocks of at most 64 positions of one sequence; the paper's are the rows of a batch,
    which would make the loss depend on the batch.

    Args:
        weight: Weight of the transport cost.
        epsilon: ε, greater than 0.
        rounds: Normalisations of rows and of columns.

    Raises:
        ValueError: If of the teacher only the most probable tokens are known.

    References:
        Cui et al. 2024, "Sinkhorn distance minimization for knowledge distillation".
    """

    weight: Annotated[Number, Setting("Weight of the transport cost beside forward KL.", ge=0)] = 0.8
    epsilon: Annotated[float, Setting("Entropic regularisation, in the unit of the L1 distance.", gt=0)] = 0.1
    rounds: Annotated[int, Setting("Normalisations of rows and columns.", ge=1)] = 20

    declaration = Declaration(
        "sinkhorn", "forward KL plus transport cost between the rows of a sequence (#11)", "Cui et al. 2024"
    )

    def __call__(self, pair: DistributionPair) -> Tensor:
        """Return the number of each position, shape (N,)."""
        if not pair.is_vocabulary:
            raise ValueError(
                "`sinkhorn` compares positions with each other, and of a stored top-k every position has other tokens; "
                "give the teacher itself"
            )
        costs = torch.cat(
            [
                transport_cost(pair.model[rows].exp(), pair.target[rows].exp(), self.epsilon, self.rounds)
                for rows in _rows_of_groups(pair.groups)
            ]
            or [pair.model.new_zeros(0)]
        )
        return KL().exact(target_logits=pair.target, model_logits=pair.model) + self.weight * costs


def transport_cost(model: Tensor, target: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Return the share of each of the student's rows in the transport cost, shape (b,).

    Args:
        model: The student's probabilities, shape (b, W).
        target: The teacher's, shape (b, W).
        epsilon: Entropic regularisation.
        rounds: Normalisations.

    Example:
        >>> transport_cost(torch.eye(2), torch.eye(2), 0.1, 20)
        tensor([4.1223e-09, 4.1223e-09])
    """
    cost = torch.cdist(model, target, p=1)
    plan = -cost / epsilon
    for _ in range(rounds):
        plan = plan.log_softmax(1).log_softmax(0)
    return (plan.exp() * cost).sum(1)


def _rows_of_groups(groups: Tensor) -> list[slice]:
    """Return where each group lies; its rows follow each other."""
    _, counts = torch.unique_consecutive(groups, return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
