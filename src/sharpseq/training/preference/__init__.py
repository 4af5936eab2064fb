"""Learning from preferences: references, the loss that compares with them, and its trainer."""

from sharpseq.training.preference.preference_loss import PreferenceLoss
from sharpseq.training.preference.preference_trainer import PreferenceTrainer
from sharpseq.training.preference.references import AdapterBaseReference, ModelReference, Reference

__all__ = ["AdapterBaseReference", "ModelReference", "PreferenceLoss", "PreferenceTrainer", "Reference"]
