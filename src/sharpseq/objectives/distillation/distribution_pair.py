"""The distributions of a teacher and a student at the same positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NO_LABEL = -1
"""The column of a position that has no target token, such as a frame of CTC."""


@dataclass(frozen=True)
class DistributionPair:
    """What a teacher and a student say of N positions, over the same W outcomes.

    The outcomes are the vocabulary; or, where only the teacher's k most probable tokens are known, these and one
    more: "any other token".

    Args:
        target: The teacher's log-probabilities in nats, without gradient, shape (N, W).
        model: The student's log-probabilities in nats, shape (N, W).
        labels: Column of the target token, or `NO_LABEL`, shape (N,).
        groups: Positions with the same number are compared with each other, shape (N,).
        label_target: The teacher's log-probability of the target token, in nats, shape (N,); −inf without a label.
        label_model: The student's, shape (N,).
        is_vocabulary: Whether the outcomes are the vocabulary, so that rows can be compared with each other.
    """

    target: Tensor
    model: Tensor
    labels: Tensor
    groups: Tensor
    label_target: Tensor
    label_model: Tensor
    is_vocabulary: bool = True


def pair_of_logits(
    target_logits: Tensor, logits: Tensor, labels: Tensor, groups: Tensor, *, temperature: float = 1.0
) -> DistributionPair:
    """Return the pair over the whole vocabulary.

    Args:
        target_logits: The teacher's logits, shape (N, V).
        logits: The student's logits, shape (N, V).
        labels: Target tokens, negative where there is none, shape (N,).
        groups: See `DistributionPair`.
        temperature: Divides the logits of both.

    Raises:
        ValueError: If the vocabularies differ in size.

    Example:
        >>> nothing = torch.tensor([0])
        >>> pair = pair_of_logits(torch.zeros(1, 2), torch.zeros(1, 2), nothing, nothing)
        >>> pair.target, pair.label_model
        (tensor([[-0.6931, -0.6931]]), tensor([-0.6931]))
    """
    if target_logits.shape != logits.shape:
        raise ValueError(
            f"teacher and student must have the same vocabulary; the teacher's has {target_logits.shape[-1]} entries "
            f"and the student's {logits.shape[-1]}"
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    target = F.log_softmax(target_logits.detach().to(dtype) / temperature, dim=-1)
    model = F.log_softmax(logits.to(dtype) / temperature, dim=-1)
    columns = torch.where(labels < 0, NO_LABEL, labels)
    return DistributionPair(target, model, columns, groups, _chosen(target, columns), _chosen(model, columns))


def pair_of_top_k(
    token_ids: Tensor,
    target_log_probs: Tensor,
    label_target: Tensor,
    logits: Tensor,
    labels: Tensor,
    groups: Tensor,
    *,
    temperature: float = 1.0,
) -> DistributionPair:
    """Return the pair over the teacher's k most probable tokens and all others together.

    Putting outcomes together never makes an f-divergence larger, so what is computed on the pair is a lower bound of
    the divergence over the whole vocabulary.

    Args:
        token_ids: The teacher's most probable tokens, shape (N, k).
        target_log_probs: Their log-probabilities and that of all others together, in nats, shape (N, k + 1).
        label_target: The teacher's log-probability of the target token, shape (N,).
        logits: The student's logits, shape (N, V).
        labels: Target tokens, negative where there is none, shape (N,).
        groups: See `DistributionPair`.
        temperature: Divides the student's logits; the teacher's have been divided already.

    Example:
        >>> one = torch.tensor([0])
        >>> pair = pair_of_top_k(one[:, None], torch.tensor([[0.5, 0.5]]).log(), torch.tensor([-0.7]),
        ...                      torch.zeros(1, 4), torch.tensor([3]), one)
        >>> pair.model.exp(), pair.labels
        (tensor([[0.2500, 0.7500]]), tensor([1]))
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    model = F.log_softmax(logits.to(dtype) / temperature, dim=-1)
    known = model.gather(1, token_ids)
    target = target_log_probs.to(dtype)
    if token_ids.shape[1] < model.shape[1]:
        known = torch.cat([known, model.scatter(1, token_ids, -torch.inf).logsumexp(1, keepdim=True)], dim=1)
    else:
        target = target[:, :-1]  # there are no other tokens
    is_label = token_ids == labels[:, None]
    columns = torch.where(is_label.any(1), is_label.int().argmax(1), token_ids.shape[1])
    columns = torch.where(labels < 0, NO_LABEL, columns)
    return DistributionPair(
        target=target,
        model=known,
        labels=columns,
        groups=groups,
        label_target=label_target.to(dtype),
        label_model=_chosen(model, torch.where(labels < 0, NO_LABEL, labels)),
        is_vocabulary=False,
    )


def _chosen(log_probs: Tensor, columns: Tensor) -> Tensor:
    chosen = log_probs.gather(1, columns.clamp(min=0)[:, None])[:, 0]
    return chosen.masked_fill(columns == NO_LABEL, -torch.inf)
