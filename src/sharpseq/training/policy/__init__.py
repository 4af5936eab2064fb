"""Policies: models that learn from their own samples and a reward."""

from sharpseq.training.policy.policy import Policy
from sharpseq.training.policy.policy_loss import PolicyLoss
from sharpseq.training.policy.policy_trainer import PolicyTrainer

__all__ = ["Policy", "PolicyLoss", "PolicyTrainer"]
