"""What a policy objective reads: samples of a model with their rewards, as tensors alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLogProbs:
    """Log-probabilities of the tokens of samples, in nats, shape (N, T) each, 0 where nothing is scored.

    Args:
        policy: Under the model in training.
        behavior: Under the distribution that the samples were drawn from.
        reference: Under the reference.
        mask: True for tokens.
    """

    policy: Tensor
    behavior: Tensor
    reference: Tensor
    mask: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of values (N, T) over the tokens of each sample, shape (N,)."""
        return values.masked_fill(~self.mask, 0.0).sum(1) / self.mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class OwnSamples:
    r"""N samples with their rewards; those of one input form a group.

    Args:
        policy: :math:`\log \pi_\theta(y|x)` in nats, shape (N,): the one tensor that gradients flow to.
        behavior: :math:`\log \mu(y|x)` under the distribution that the samples were drawn from, shape (N,).
        reference: :math:`\log \pi_{ref}(y|x)` under what the training starts from, shape (N,).
        rewards: Of each sample, higher is better, shape (N,).
        groups: Number of each sample's input, from 0, shape (N,); groups of a batch may differ in size.
        num_tokens: Lengths in tokens, shape (N,).
        tokens: Log-probabilities of single tokens, where an objective needs them and the model has them (not CTC).
        entropies: Mean over its positions (tokens, or frames of CTC) of the entropy of the model's predictions in nats,
            with gradient, shape (N,); where an objective needs it.
        from_reference: True for samples that were drawn from the reference, shape (N,); None where none are.
        log_normalizers: log Z of the target of `FDpg`, shape (N,); by default its estimate in each group.

    Raises:
        ValueError: If shapes disagree, or a reward is not finite.

    Example:
        >>> log_probs = torch.tensor([-1.0, -2.0, -1.0, -3.0])
        >>> samples = OwnSamples(
        ...     policy=log_probs,
        ...     behavior=log_probs,
        ...     reference=log_probs,
        ...     rewards=torch.tensor([1.0, 0.0, 1.0, 1.0]),
        ...     groups=torch.tensor([0, 0, 1, 1]),
        ...     num_tokens=torch.tensor([2, 3, 2, 2]),
        ... )
        >>> samples.group_mean(samples.rewards)
        tensor([0.5000, 0.5000, 1.0000, 1.0000])
    """

    policy: Tensor
    behavior: Tensor
    reference: Tensor
    rewards: Tensor
    groups: Tensor
    num_tokens: Tensor
    tokens: TokenLogProbs | None = None
    entropies: Tensor | None = None
    from_reference: Tensor | None = None
    log_normalizers: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("behavior", "reference", "rewards", "groups", "num_tokens"):
            if getattr(self, name).shape != self.policy.shape:
                raise ValueError(
                    f"`{name}` must have shape {tuple(self.policy.shape)}, one number a sample; got "
                    f"{tuple(getattr(self, name).shape)}"
                )
        if not bool(self.rewards.isfinite().all()):
            row = int((~self.rewards.isfinite()).nonzero()[0])
            raise ValueError(f"`rewards` must be finite; got {float(self.rewards[row])} for sample {row}")

    @property
    def group_sizes(self) -> Tensor:
        """Samples in the group of each sample, shape (N,)."""
        return torch.bincount(self.groups)[self.groups]

    @property
    def log_ratio(self) -> Tensor:
        r"""The log importance weight :math:`\log \pi_\theta - \log \mu`, without gradient, shape (N,)."""
        return self.policy.detach() - self.behavior

    def check_groups(self, name: str) -> None:
        """Check that every group has at least two samples.

        Raises:
            ValueError: If not; ``name`` is what needs them.
        """
        if bool((self.group_sizes < 2).any()):
            raise ValueError(f"`{name}` compares the samples of one input with each other: draw at least 2 of each")

    def group_sum(self, values: Tensor) -> Tensor:
        """Return the sum of values (N,) over the group of each sample, shape (N,)."""
        num_groups = int(self.groups.max()) + 1 if self.groups.numel() else 0
        return values.new_zeros(num_groups).index_add(0, self.groups, values)[self.groups]

    def group_mean(self, values: Tensor) -> Tensor:
        """Return the mean of values (N,) over the group of each sample, shape (N,)."""
        return self.group_sum(values) / self.group_sizes

    def mean_of_others(self, values: Tensor) -> Tensor:
        """Return the mean of values (N,) over the other samples of each sample's group, shape (N,)."""
        return (self.group_sum(values) - values) / (self.group_sizes - 1).clamp(min=1)

    def group_log_mean_exp(self, values: Tensor) -> Tensor:
        """Return the logarithm of the mean of exp(values) over the group of each sample, shape (N,)."""
        num_groups = int(self.groups.max()) + 1 if self.groups.numel() else 0
        highest = values.new_full((num_groups,), -torch.inf).scatter_reduce(0, self.groups, values, "amax")[self.groups]
        safe = torch.where(highest.isfinite(), highest, 0.0)
        return self.group_mean((values - safe).exp()).log() + safe
