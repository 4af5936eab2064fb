"""Analyses of latent-variable models: what refinement does to the latent, the translation and its probability.

Importing `sharpseq.evaluation` does not import this subpackage, which needs torch.
"""

from __future__ import annotations

from sharpseq.analyses.latent.corpus_marginals import MarginalReport, SentenceMarginal, measure_marginals
from sharpseq.analyses.latent.diversity import DiversityReport, Spread, diversity_of, measure_diversity
from sharpseq.analyses.latent.gradient_field import GradientField, TokenField, check_plane, gradient_field
from sharpseq.analyses.latent.latent_files import (
    diversity_files,
    field_files,
    marginal_files,
    revisions_files,
    steps_files,
)
from sharpseq.analyses.latent.latent_tables import diversity_rows, marginal_rows, step_rows, text_rows
from sharpseq.analyses.latent.marginal import MarginalEstimate, marginal_log_prob
from sharpseq.analyses.latent.moved_phrases import Segment, mark_moved_phrases
from sharpseq.analyses.latent.readable_pairs import latent_model, readable_pairs
from sharpseq.analyses.latent.revision_markup import revision_text
from sharpseq.analyses.latent.revisions import Revision, RevisionReport, revise
from sharpseq.analyses.latent.step_outputs import check_refinement
from sharpseq.analyses.latent.step_statistics import (
    MarginalOfStep,
    Mean,
    RefinementReport,
    StepStatistics,
    measure_steps,
)

__all__ = [
    "DiversityReport",
    "GradientField",
    "MarginalEstimate",
    "MarginalOfStep",
    "MarginalReport",
    "Mean",
    "RefinementReport",
    "Revision",
    "RevisionReport",
    "Segment",
    "SentenceMarginal",
    "Spread",
    "StepStatistics",
    "TokenField",
    "check_plane",
    "check_refinement",
    "diversity_files",
    "diversity_of",
    "diversity_rows",
    "field_files",
    "gradient_field",
    "latent_model",
    "marginal_files",
    "marginal_log_prob",
    "marginal_rows",
    "mark_moved_phrases",
    "measure_diversity",
    "measure_marginals",
    "measure_steps",
    "readable_pairs",
    "revise",
    "revision_text",
    "revisions_files",
    "step_rows",
    "steps_files",
    "text_rows",
]
