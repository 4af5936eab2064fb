"""Distillation: teachers, their stored outputs, and the loss that follows them."""

from sharpseq.training.distillation.distillation_loss import Distillation, DistillationLoss
from sharpseq.training.distillation.distillation_trainer import DistillationTrainer
from sharpseq.training.distillation.minillm import MiniLlm, MiniLlmLoss
from sharpseq.training.distillation.teacher_store import DTYPES, TeacherStore
from sharpseq.training.distillation.teachers import AdapterBaseTeacher, ModelTeacher, StoredTeacher, Teacher
from sharpseq.training.distillation.teaching import TeachingReport, teach

__all__ = [
    "DTYPES",
    "AdapterBaseTeacher",
    "Distillation",
    "DistillationLoss",
    "DistillationTrainer",
    "MiniLlm",
    "MiniLlmLoss",
    "ModelTeacher",
    "StoredTeacher",
    "Teacher",
    "TeacherStore",
    "TeachingReport",
    "teach",
]
