"""Scoring: what turns hidden states, logits or a whole model into scores of tokens and sequences."""

from sharpseq.scoring.ctc_best_alignment import ctc_best_alignment
from sharpseq.scoring.ctc_ngram_counts import ctc_expected_length, ctc_ngram_counts, ctc_target_counts
from sharpseq.scoring.ctc_scores import ctc_frames_needed, score_ctc
from sharpseq.scoring.dag_likelihood import dag_best_path, dag_log_likelihood
from sharpseq.scoring.dag_ngram_counts import dag_num_ngrams, dag_target_counts, passing_probabilities
from sharpseq.scoring.dag_scores import DagGraph, best_vertices, score_dag, token_matches
from sharpseq.scoring.gaussians import DiagonalGaussian
from sharpseq.scoring.length_mask import length_mask
from sharpseq.scoring.model_scores import aligned_labels, score_model
from sharpseq.scoring.ngram_counts import clipped_matches
from sharpseq.scoring.requests import BLOCK, LABELS_ONLY, RowStatistic, ScoreRequest
from sharpseq.scoring.row_statistics import logits_at
from sharpseq.scoring.sequence_scores import NgramScores, PositionScores, SequenceScores, TokenScores
from sharpseq.scoring.token_scores import IGNORED, score_hidden_states, score_logits

__all__ = [
    "BLOCK",
    "IGNORED",
    "LABELS_ONLY",
    "DagGraph",
    "DiagonalGaussian",
    "NgramScores",
    "PositionScores",
    "RowStatistic",
    "ScoreRequest",
    "SequenceScores",
    "TokenScores",
    "aligned_labels",
    "best_vertices",
    "clipped_matches",
    "ctc_best_alignment",
    "ctc_expected_length",
    "ctc_frames_needed",
    "ctc_ngram_counts",
    "ctc_target_counts",
    "dag_best_path",
    "dag_log_likelihood",
    "dag_num_ngrams",
    "dag_target_counts",
    "length_mask",
    "logits_at",
    "passing_probabilities",
    "score_ctc",
    "score_dag",
    "score_hidden_states",
    "score_logits",
    "score_model",
    "token_matches",
]
