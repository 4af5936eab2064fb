"""Scoring: what turns hidden states, logits or a whole model into sequence scores."""

from sharpseq.scoring.ctc_scores import ctc_frames_needed, ctc_sequence_scores
from sharpseq.scoring.gaussians import DiagonalGaussian
from sharpseq.scoring.model_scores import score_model
from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import IGNORED, scores_from_logits, sequence_scores

__all__ = [
    "IGNORED",
    "DiagonalGaussian",
    "SequenceScores",
    "ctc_frames_needed",
    "ctc_sequence_scores",
    "score_model",
    "scores_from_logits",
    "sequence_scores",
]
