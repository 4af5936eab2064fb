"""Training: trainers and their parts; the only room that imports a Trainer."""

from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.checkpoints import average_weights
from sharpseq.training.refiner_trainer import RefinerTrainer
from sharpseq.training.trainer import SequenceTrainer, collator_for

__all__ = [
    "RefinerTrainer",
    "SequenceTrainer",
    "SequenceTrainingArguments",
    "average_weights",
    "collator_for",
]
