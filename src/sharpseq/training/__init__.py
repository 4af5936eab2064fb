"""Training: the trainer, stages, checkpoints and runs; the only part that imports a Trainer."""

from sharpseq.training.arguments import SequenceTrainingArguments
from sharpseq.training.checkpoints import average_weights
from sharpseq.training.refiner_trainer import RefinerTrainer
from sharpseq.training.run import RunResult, run_recipe
from sharpseq.training.trainer import SequenceTrainer, collator_for

__all__ = [
    "RefinerTrainer",
    "RunResult",
    "SequenceTrainer",
    "SequenceTrainingArguments",
    "average_weights",
    "collator_for",
    "run_recipe",
]
