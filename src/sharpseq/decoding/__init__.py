"""Decoders: from a model and a batch of sources to sequences, with their log-probabilities and the passes they took."""

from __future__ import annotations

from collections.abc import Mapping

from sharpseq.declarations import method_table
from sharpseq.decoding.ancestral import ANCESTRAL, ancestral_decode
from sharpseq.decoding.argmax import ARGMAX, argmax_decode
from sharpseq.decoding.autoregressive import AUTOREGRESSIVE, autoregressive_decode
from sharpseq.decoding.best_of_n import BEST_OF_N, best_of_n_decode, best_of_n_divergence
from sharpseq.decoding.ctc_best_path import CTC_BEST_PATH, ctc_best_path_decode
from sharpseq.decoding.ctc_prefix_beam import CTC_PREFIX_BEAM, ctc_prefix_beam_search_decode
from sharpseq.decoding.dag_beam import DAG_BEAM, dag_beam_search_decode
from sharpseq.decoding.dag_lookahead import DAG_LOOKAHEAD, dag_lookahead_decode
from sharpseq.decoding.dag_sampling import DAG_SAMPLING, dag_sampling_decode
from sharpseq.decoding.dag_viterbi import DAG_VITERBI, dag_viterbi_decode
from sharpseq.decoding.decoder import Decoder
from sharpseq.decoding.delta_inference import DELTA_INFERENCE, delta_inference_decode
from sharpseq.decoding.kneser_ney import train_kneser_ney
from sharpseq.decoding.language_model import LanguageModel
from sharpseq.decoding.latent_refinement import LATENT_REFINEMENT, latent_refinement_decode
from sharpseq.decoding.latent_search import LATENT_SEARCH, latent_search_decode
from sharpseq.decoding.lattice_mbr import LATTICE_MBR, lattice_mbr_decode, linear_bleu_gains
from sharpseq.decoding.length_limits import (
    ReachedLimit,
    longest_training_target,
    reached_new_token_limits,
    remember_longest_target,
    with_margin,
)
from sharpseq.decoding.lengths import length_candidates
from sharpseq.decoding.mask_predict import MASK_PREDICT, mask_predict_decode
from sharpseq.decoding.ngram_model import NgramModel, NgramOrder
from sharpseq.decoding.ordered_unmasking import ORDERED_UNMASKING, ordered_unmasking_decode
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import (
    AutoregressiveModel,
    Batch,
    CtcModel,
    DagModel,
    EncoderOutput,
    LatentModel,
    ParallelModel,
    Rescorer,
    SoftMaskModel,
)
from sharpseq.decoding.remembered_pass import RememberedPass
from sharpseq.decoding.rescoring import autoregressive_rescorer
from sharpseq.decoding.sample_mbr import SAMPLE_MBR, Utility, mean_utilities, sample_mbr_decode
from sharpseq.decoding.soft_mask import SOFT_MASK, soft_mask_decode
from sharpseq.decoding.verified_draft import VERIFIED_DRAFT, Drafter, verified_draft_decode

__all__ = [
    "DECODERS",
    "AutoregressiveModel",
    "Batch",
    "CtcModel",
    "DagModel",
    "DecodeOutput",
    "Decoder",
    "Drafter",
    "EncoderOutput",
    "LanguageModel",
    "LatentModel",
    "NgramModel",
    "NgramOrder",
    "ParallelModel",
    "ReachedLimit",
    "RememberedPass",
    "Rescorer",
    "SoftMaskModel",
    "Utility",
    "ancestral_decode",
    "argmax_decode",
    "autoregressive_decode",
    "autoregressive_rescorer",
    "best_of_n_decode",
    "best_of_n_divergence",
    "ctc_best_path_decode",
    "ctc_prefix_beam_search_decode",
    "dag_beam_search_decode",
    "dag_lookahead_decode",
    "dag_sampling_decode",
    "dag_viterbi_decode",
    "delta_inference_decode",
    "latent_refinement_decode",
    "latent_search_decode",
    "lattice_mbr_decode",
    "length_candidates",
    "linear_bleu_gains",
    "longest_training_target",
    "mask_predict_decode",
    "mean_utilities",
    "ordered_unmasking_decode",
    "reached_new_token_limits",
    "remember_longest_target",
    "sample_mbr_decode",
    "soft_mask_decode",
    "train_kneser_ney",
    "verified_draft_decode",
    "with_margin",
]

DECODERS: Mapping[str, Decoder] = method_table(
    AUTOREGRESSIVE,
    ARGMAX,
    MASK_PREDICT,
    ORDERED_UNMASKING,
    ANCESTRAL,
    SOFT_MASK,
    CTC_BEST_PATH,
    CTC_PREFIX_BEAM,
    DAG_LOOKAHEAD,
    DAG_VITERBI,
    DAG_BEAM,
    DAG_SAMPLING,
    DELTA_INFERENCE,
    LATENT_REFINEMENT,
    LATENT_SEARCH,
    BEST_OF_N,
    VERIFIED_DRAFT,
    LATTICE_MBR,
    SAMPLE_MBR,
)
"""Every decoder by name; adding one is one file and one entry here."""
