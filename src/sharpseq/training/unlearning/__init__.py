"""Unlearning: what takes the place of answers to forget, the loss, and its trainer."""

from sharpseq.training.unlearning.answer_pool import (
    DEFAULT_TEMPLATES,
    AnswerPool,
    encode_templates,
    retained_examples,
)
from sharpseq.training.unlearning.unlearning_loss import Unlearning, UnlearningLoss
from sharpseq.training.unlearning.unlearning_trainer import UnlearningTrainer

__all__ = [
    "DEFAULT_TEMPLATES",
    "AnswerPool",
    "Unlearning",
    "UnlearningLoss",
    "UnlearningTrainer",
    "encode_templates",
    "retained_examples",
]
