"""Sharper objectives, one-pass models and honest evaluation for closed-ended sequence generation.

A model turns a batch into sequence scores, an objective turns sequence scores into a loss, a decoder turns a model into
text; the names below are the ones that join them. Each is imported from its room when it is first used, so that
``import sharpseq`` and ``sharpseq --help`` load no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpseq.errors import UserError
    from sharpseq.generation import SequenceGenerator
    from sharpseq.objectives import BoxCox, ConvexComposition, Exponential, Identity, MaximumLikelihood, Power
    from sharpseq.runs import load_recipe, run_recipe
    from sharpseq.scoring import ScoreRequest, SequenceScores, score_logits, score_model
    from sharpseq.training import (
        DistillationTrainer,
        PolicyTrainer,
        PreferenceTrainer,
        SequenceTrainer,
        SequenceTrainingArguments,
        UnlearningTrainer,
    )

__version__ = "0.1.0"

__all__ = [
    "BoxCox",
    "ConvexComposition",
    "DistillationTrainer",
    "Exponential",
    "Identity",
    "MaximumLikelihood",
    "PolicyTrainer",
    "Power",
    "PreferenceTrainer",
    "ScoreRequest",
    "SequenceGenerator",
    "SequenceScores",
    "SequenceTrainer",
    "SequenceTrainingArguments",
    "UnlearningTrainer",
    "UserError",
    "__version__",
    "load_recipe",
    "run_recipe",
    "score_logits",
    "score_model",
]

# Where each public name lives; the same names as the imports above, which only type checkers and editors read.
_ROOMS = {
    "SequenceGenerator": "sharpseq.generation",
    "ScoreRequest": "sharpseq.scoring",
    "SequenceScores": "sharpseq.scoring",
    "score_logits": "sharpseq.scoring",
    "score_model": "sharpseq.scoring",
    "DistillationTrainer": "sharpseq.training",
    "PreferenceTrainer": "sharpseq.training",
    "PolicyTrainer": "sharpseq.training",
    "SequenceTrainer": "sharpseq.training",
    "SequenceTrainingArguments": "sharpseq.training",
    "UnlearningTrainer": "sharpseq.training",
    "UserError": "sharpseq.errors",
    "BoxCox": "sharpseq.objectives",
    "ConvexComposition": "sharpseq.objectives",
    "Exponential": "sharpseq.objectives",
    "Identity": "sharpseq.objectives",
    "load_recipe": "sharpseq.runs",
    "MaximumLikelihood": "sharpseq.objectives",
    "Power": "sharpseq.objectives",
    "run_recipe": "sharpseq.runs",
}


def __getattr__(name: str) -> object:
    """Import a public name from its room on first use (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
