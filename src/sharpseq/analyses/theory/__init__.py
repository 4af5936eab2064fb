"""The theory in numbers and pictures: what each objective wants of given outcomes, and whether training gets there.

Importing `sharpseq.evaluation` does not import this subpackage, which needs torch and matplotlib.
"""

from __future__ import annotations

from sharpseq.analyses.theory.counts import VIELEN_DANK, OutcomeCounts, outcome_counts, read_counts
from sharpseq.analyses.theory.objectives_compared import named_objectives
from sharpseq.analyses.theory.optimum_study import (
    LengthBias,
    OptimumStudy,
    length_bias,
    objective_optima,
    study_optima,
)
from sharpseq.analyses.theory.product_study import ProductStudy, study_ctc, study_factorised
from sharpseq.analyses.theory.study import NUM_QUESTIONS, TheoryStudy, study_theory
from sharpseq.analyses.theory.theory_files import theory_files
from sharpseq.analyses.theory.theory_tables import optimum_rows, product_rows, switch_sentence, training_rows
from sharpseq.analyses.theory.training_study import GradientStudy, TrainingStudy, study_gradients, study_training

__all__ = [
    "NUM_QUESTIONS",
    "VIELEN_DANK",
    "GradientStudy",
    "LengthBias",
    "OptimumStudy",
    "OutcomeCounts",
    "ProductStudy",
    "TheoryStudy",
    "TrainingStudy",
    "length_bias",
    "named_objectives",
    "objective_optima",
    "optimum_rows",
    "outcome_counts",
    "product_rows",
    "read_counts",
    "study_ctc",
    "study_factorised",
    "study_gradients",
    "study_optima",
    "study_theory",
    "study_training",
    "switch_sentence",
    "theory_files",
    "training_rows",
]
