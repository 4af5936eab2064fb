"""Text in, text out: loading a model, writing with it, and a corpus in a teacher's words."""

from sharpseq.generation.decoder_choice import check_decoder, default_decoder, family_of
from sharpseq.generation.incomplete_outputs import ReachedLimits, incomplete_outputs
from sharpseq.generation.model_loading import load_model, max_source_length, model_folder
from sharpseq.generation.sequence_generator import Generation, SequenceGenerator, load_rescorer, sources_of
from sharpseq.generation.target_languages import fit_target_start, with_languages

__all__ = [
    "Generation",
    "ReachedLimits",
    "SequenceGenerator",
    "check_decoder",
    "default_decoder",
    "family_of",
    "fit_target_start",
    "incomplete_outputs",
    "load_model",
    "load_rescorer",
    "max_source_length",
    "model_folder",
    "sources_of",
    "with_languages",
]
