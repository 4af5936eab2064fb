"""Learning from preferences: references, the loss that compares with them, and its trainer."""

from sharpseq.training.preference.preference_loss import PreferenceLoss
from sharpseq.training.preference.preference_trainer import PreferenceTrainer
from sharpseq.training.preference.reference_store import StoredReference, store_reference
from sharpseq.training.preference.references import AdapterBaseReference, ModelReference, Reference
from sharpseq.training.preference.token_masks import TokenMasks, token_masks_for

__all__ = [
    "AdapterBaseReference",
    "ModelReference",
    "PreferenceLoss",
    "PreferenceTrainer",
    "Reference",
    "StoredReference",
    "TokenMasks",
    "store_reference",
    "token_masks_for",
]
