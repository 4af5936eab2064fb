"""What a policy's training remembers from one update to the next, and puts into its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpseq.data import EncodedExample
from sharpseq.objectives.policy import Multiplier
from sharpseq.training.policy.groups import SampledGroup


@dataclass
class PolicyState:
    """The state.

    Args:
        multipliers: Price of each budget.
        stored: Groups of earlier updates, the oldest first.
        weights: λ of the features of `DistributionalControl`, once it is known.
        proposal: Weights of the model that samples are drawn from, where that is not the policy.
        gain: Sum of the terms that say how much nearer the policy is to the target than the proposal.
        num_updates: Updates since the proposal was looked at.
    """

    multipliers: dict[str, Multiplier] = field(default_factory=dict)
    stored: list[SampledGroup] = field(default_factory=list)
    weights: list[float] | None = None
    proposal: dict[str, Tensor] | None = None
    gain: float = 0.0
    num_updates: int = 0

    def store(self, groups: Sequence[SampledGroup], *, size: int) -> None:
        """Keep groups, in the order of their examples, and forget the oldest."""
        ordered = sorted(groups, key=lambda group: group.example.index)
        old = [replace(group, is_fresh=False) for group in ordered]
        self.stored = [*self.stored, *old][-size:] if size else []

    def replayed(self, example: int, *, share: float, seed: str) -> SampledGroup | None:
        """Return a stored group to take an example's place with probability ``share``, None for none.

        Which one depends on the seed and the example alone.
        """
        if not self.stored or _number(f"{seed} replay {example}") >= share:
            return None
        return self.stored[int(_number(f"{seed} stored {example}") * len(self.stored))]

    def save(self, file: Path) -> None:
        """Write the state."""
        plain = {**vars(self), "multipliers": {name: asdict(each) for name, each in self.multipliers.items()}}
        plain["stored"] = [_plain(group) for group in self.stored]
        torch.save(plain, file)

    @classmethod
    def load(cls, file: Path) -> PolicyState:
        """Read a state."""
        plain: dict[str, Any] = torch.load(file, weights_only=True)
        plain["multipliers"] = {name: Multiplier(**each) for name, each in plain["multipliers"].items()}
        plain["stored"] = [
            SampledGroup(**{**group, "example": EncodedExample(*group["example"])}) for group in plain["stored"]
        ]
        return cls(**plain)


def _plain(group: SampledGroup) -> dict[str, Any]:
    example = group.example
    return {**vars(group), "example": [example.index, example.input_ids, example.labels]}


def _number(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "little") / 2**48
