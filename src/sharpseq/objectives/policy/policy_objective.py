"""The role of a policy objective, and what it needs to know about samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sharpseq.objectives.policy.own_samples import OwnSamples


@dataclass(frozen=True)
class PolicyNeeds:
    """What an objective reads beside the log-probabilities of whole samples and their rewards.

    Args:
        tokens: Log-probabilities of single tokens, which CTC does not have.
        entropies: Entropies of the predictions.
        rewards: Whether rewards are read at all.
        smallest_group: Samples of each input, at least.
        reference_samples: Whether inputs that the reference solves get samples of the reference.
    """

    tokens: bool = False
    entropies: bool = False
    rewards: bool = True
    smallest_group: int = 1
    reference_samples: bool = False


class PolicyObjective(Protocol):
    """Anything that turns `OwnSamples` into a loss of each sample, shape (N,), not reduced.

    The mean over samples has the gradient of what is minimised.
    """

    @property
    def needs(self) -> PolicyNeeds:
        """What it reads."""
        ...

    def __call__(self, samples: OwnSamples) -> Tensor:
        """Return the loss of each sample."""
        ...
