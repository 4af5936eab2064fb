r"""SequenceMatch: logits as soft action values, so that a model's own sequences count beside the demonstrations.

A logit :math:`\ell(a|s)` is the value of writing token a after s, :math:`V(s) = \log \sum_a \exp \ell(a|s)`, and
:math:`r_t = \ell(a_t|s_t) - \gamma V(s_{t+1})` the reward that these values stand for. After EOS comes an absorbing
state of value 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MatchDivergence = Literal["kl", "chi2", "chi2_mixture"]
MATCH_DIVERGENCES: tuple[MatchDivergence, ...] = ("kl", "chi2", "chi2_mixture")


@dataclass(frozen=True)
class Trajectories:
    """Sequences of tokens with what a model says at each of them.

    Args:
        log_probs: Log-probability of each token in nats, shape (B, T).
        values: V, the log-sum-exp of the logits where each token was chosen, shape (B, T).
        mask: True for tokens, which lie side by side in a row, shape (B, T).
        ended: Whether the last token is EOS, shape (B,). Where it is not, nothing is known of what comes after the last
            token, and that token does not count.
        imitated: Which tokens are to be imitated, shape (B, T): all but those that were put in to be taken back.
    """

    log_probs: Tensor
    values: Tensor
    mask: Tensor
    ended: Tensor
    imitated: Tensor

    def following_values(self) -> Tensor:
        """Return the value of the state after each token, 0 at the end, shape (B, T)."""
        after = torch.roll(self.values * self.mask, -1, dims=1)
        last_column = torch.arange(after.shape[1], device=after.device) == after.shape[1] - 1
        return after.masked_fill(last_column, 0.0)

    def counted(self) -> Tensor:
        """Return which tokens have a known following state, shape (B, T)."""
        numbers = self.mask.long().cumsum(1)
        is_last = self.mask & (numbers == numbers[:, -1:])
        return self.mask & ~(is_last & ~self.ended[:, None])

    def discounts(self, discount: float) -> Tensor:
        """Return γᵗ with t = 0 at the first token, shape (B, T)."""
        steps = (self.mask.long().cumsum(1) - 1).clamp(min=0)
        return torch.full_like(self.values, discount) ** steps

    def rewards(self, discount: float) -> Tensor:
        """Return r of each token, in nats, shape (B, T)."""
        return self.log_probs + self.values - discount * self.following_values()


def match_demonstrations(
    demonstrations: Trajectories, *, divergence: MatchDivergence, discount: float = 1.0, alpha: float = 1.0
) -> Tensor:
    r"""Return what demonstrations cost: :math:`-\sum_t \gamma^t [\varphi(r_t) - (V(s_t) - \gamma V(s_{t+1}))]`.

    ``kl`` is φ(r) = r, ``chi2`` :math:`r - r^2/4\alpha`, and ``chi2_mixture`` :math:`r - r^2/8\alpha`, to which
    `match_own_samples` adds the other half. As :math:`r_t - V(s_t) + \gamma V(s_{t+1}) = \log p(a_t|s_t)`, the cost is
    the discounted negative log-likelihood plus a penalty of squared rewards, and ``kl`` the likelihood alone. The V
    terms of the model's own samples are left out: over a whole sequence, demonstration or sample, they telescope to the
    value of the prompt.

    Args:
        demonstrations: The demonstrations.
        divergence: What is minimised between the distributions of demonstrations and of the model.
        discount: γ, in (0, 1].
        alpha: α, greater than 0: how large rewards may become; for α → ∞ all are ``kl``.

    Returns:
        Shape (B,), in nats for each sequence, not reduced.

    Raises:
        ValueError: If a parameter is out of range.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.bool)
        >>> steps = Trajectories(torch.tensor([[-1.0]]), torch.tensor([[0.5]]), one, one[0], one)
        >>> match_demonstrations(steps, divergence="kl")
        tensor([1.])

    References:
        Cundy and Ermon 2024, "SequenceMatch" (#50); the end state and the constants are ours
        (docs/demonstrations.md).
    """
    _check(divergence, discount, alpha)
    weight = {"kl": 0.0, "chi2": 1 / (4 * alpha), "chi2_mixture": 1 / (8 * alpha)}[divergence]
    imitated = demonstrations.mask & demonstrations.imitated
    squares = demonstrations.rewards(discount) ** 2 * (demonstrations.counted() & imitated)
    terms = weight * squares - demonstrations.log_probs * imitated
    return (terms * demonstrations.discounts(discount)).sum(1)


def match_own_samples(samples: Trajectories, *, discount: float = 1.0, alpha: float = 1.0) -> Tensor:
    r"""Return what the model's own samples cost under ``chi2_mixture``: :math:`\sum_t \gamma^t r_t^2 / 8\alpha`.

    Together with the demonstrations it keeps every reward within ±4α: the optimum is
    :math:`r = 4\alpha (p - \pi)/(p + \pi)`, p the demonstrations' and π the model's distribution.

    Args:
        samples: Sequences that the model wrote.
        discount: γ, in (0, 1].
        alpha: α, greater than 0.

    Returns:
        Shape (B,), not reduced.

    Raises:
        ValueError: If a parameter is out of range.
    """
    _check("chi2_mixture", discount, alpha)
    terms = samples.rewards(discount) ** 2 / (8 * alpha)
    return (terms * samples.discounts(discount) * samples.counted()).sum(1)


def _check(divergence: str, discount: float, alpha: float) -> None:
    if divergence not in MATCH_DIVERGENCES:
        raise ValueError(f"`divergence` must be one of {', '.join(MATCH_DIVERGENCES)}; got {divergence!r}")
    if not 0 < discount <= 1:
        raise ValueError(f"`discount` must be in (0, 1]; got {discount:g}")
    if not alpha > 0:
        raise ValueError(f"`alpha` must be greater than 0; got {alpha:g}")
