"""The evidence of preference objectives: two answers to one prompt, each scored by the policy and by the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ScoredAnswers:
    r"""One answer to each of B prompts under two models.

    Args:
        log_prob: Log-probability under the policy in nats, shape (B,); or (B, K) for K answers to each prompt.
        reference_log_prob: The same under the reference, without gradient.
        num_tokens: Lengths in tokens, same shape.
        token_log_ratios: :math:`\log \pi(y_t|s_t) - \log \pi_{ref}(y_t|s_t)` in nats, shape (B, T), 0 outside the mask.
        mask: True for the tokens of the answer, shape (B, T).
        drift: What an objective asked for about the two distributions at each position, in nats, shape (B, T).
        reward_mask: Weights of the log-ratios, at least 0, shape (B, T).
        drift_mask: Weights of the drift, at least 0, shape (B, T).

    Example:
        >>> import torch
        >>> ScoredAnswers(torch.tensor([-3.0]), torch.tensor([-5.0]), torch.tensor([4])).log_ratio
        tensor([2.])
    """

    log_prob: Tensor
    reference_log_prob: Tensor
    num_tokens: Tensor
    token_log_ratios: Tensor | None = None
    mask: Tensor | None = None
    drift: Tensor | None = None
    reward_mask: Tensor | None = None
    drift_mask: Tensor | None = None

    @property
    def log_ratio(self) -> Tensor:
        r"""The log-ratio :math:`\log \pi(y|x) - \log \pi_{ref}(y|x)` in nats, the shape of `log_prob`."""
        return self.log_prob - self.reference_log_prob


@dataclass(frozen=True)
class PreferencePairs:
    """The answers to B prompts of which one was preferred.

    Args:
        chosen: The preferred answers; K of each where the objective takes several.
        rejected: The others.
    """

    chosen: ScoredAnswers
    rejected: ScoredAnswers


@dataclass(frozen=True)
class PairNeeds:
    """What an objective reads beside the log-probabilities of whole answers.

    Args:
        drift: The number of each position, (log π_ref (N, V), log π (N, V)) → (N,); None for none.
        tokens: Whether it reads the log-ratios of tokens.
        masks: Whether it weights tokens: ``None``, ``"fixed"`` from activations of the reference, or ``"learned"``.
    """

    drift: Callable[[Tensor, Tensor], Tensor] | None = None
    tokens: bool = False
    masks: str | None = None
