"""Learning from demonstrations: beyond the likelihood of each token."""

from sharpseq.objectives.demonstrations.direction_agreement import direction_disagreement, reversed_places
from sharpseq.objectives.demonstrations.imitation import (
    IMITATION_REWARDS,
    ImitationReward,
    discriminator_loss,
    imitation_rewards,
)
from sharpseq.objectives.demonstrations.sequence_match import (
    MATCH_DIVERGENCES,
    MatchDivergence,
    Trajectories,
    match_demonstrations,
    match_own_samples,
)

__all__ = [
    "IMITATION_REWARDS",
    "MATCH_DIVERGENCES",
    "ImitationReward",
    "MatchDivergence",
    "Trajectories",
    "direction_disagreement",
    "discriminator_loss",
    "imitation_rewards",
    "match_demonstrations",
    "match_own_samples",
    "reversed_places",
]
