"""Training: trainers, losses and their parts; only this package and `integrations` import a Trainer."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import Method, method_table
from sharpseq.objectives import OBJECTIVES
from sharpseq.objectives.preference import PREFERENCES
from sharpseq.training.adversarial_comp_sum import AdversarialCompSum
from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.checkpoints import average_weights
from sharpseq.training.demonstrations import AdversarialImitation, DirectionAgreement, SequenceMatch
from sharpseq.training.distillation import Distillation, DistillationTrainer, MiniLlm
from sharpseq.training.f_sft import FSft, FSftBregman, ReferenceMethod
from sharpseq.training.gradient_matching_loss import GradientMatching, GradientMatchingLoss
from sharpseq.training.loss import Loss, LossOutput, Statistic, Step, Term
from sharpseq.training.policy import Policy, PolicyTrainer
from sharpseq.training.preference import PreferenceLoss, PreferenceTrainer
from sharpseq.training.score_loss import ScoreLoss
from sharpseq.training.trainer import SequenceTrainer, collator_for
from sharpseq.training.unlearning import Unlearning, UnlearningTrainer

__all__ = [
    "LOSSES",
    "AdversarialCompSum",
    "AdversarialImitation",
    "DirectionAgreement",
    "Distillation",
    "DistillationTrainer",
    "FSft",
    "FSftBregman",
    "GradientMatching",
    "GradientMatchingLoss",
    "Loss",
    "LossOutput",
    "MiniLlm",
    "Policy",
    "PolicyTrainer",
    "PreferenceLoss",
    "PreferenceTrainer",
    "ReferenceMethod",
    "ScoreLoss",
    "SequenceMatch",
    "SequenceTrainer",
    "SequenceTrainingArguments",
    "Statistic",
    "Step",
    "Term",
    "Unlearning",
    "UnlearningTrainer",
    "average_weights",
    "collator_for",
]

LOSSES: Mapping[str, type[Method]] = method_table(
    *OBJECTIVES.values(),
    AdversarialCompSum,
    FSft,
    FSftBregman,
    Distillation,
    MiniLlm,
    GradientMatching,
    *PREFERENCES.values(),
    Policy,
    Unlearning,
    SequenceMatch,
    AdversarialImitation,
    DirectionAgreement,
)
"""The names that a stage's ``objective`` may have: objectives of scores, and losses of another kind."""
