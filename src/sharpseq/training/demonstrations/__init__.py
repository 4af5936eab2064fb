"""Learning from demonstrations: whole sequences, a discriminator, and two directions that agree."""

from sharpseq.training.demonstrations.adversarial_imitation import AdversarialImitation, AdversarialImitationLoss
from sharpseq.training.demonstrations.backspaces import execute_backspaces, with_backspaces
from sharpseq.training.demonstrations.direction_agreement_loss import DirectionAgreement, DirectionAgreementLoss
from sharpseq.training.demonstrations.discriminator import Discriminator, fit_discriminator, target_features
from sharpseq.training.demonstrations.sequence_match_loss import SequenceMatch, SequenceMatchLoss

__all__ = [
    "AdversarialImitation",
    "AdversarialImitationLoss",
    "DirectionAgreement",
    "DirectionAgreementLoss",
    "Discriminator",
    "SequenceMatch",
    "SequenceMatchLoss",
    "execute_backspaces",
    "fit_discriminator",
    "target_features",
    "with_backspaces",
]
