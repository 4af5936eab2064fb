"""Text in, text out: loading a model, writing with it, and a corpus in a teacher's words."""

from sharpseq.generation.decoder_choice import check_decoder, default_decoder, family_of
from sharpseq.generation.model_loading import load_model, max_source_length, model_folder
from sharpseq.generation.sequence_generator import Generation, SequenceGenerator, load_rescorer, sources_of
from sharpseq.generation.target_languages import fit_target_start, with_languages

__all__ = [
    "Generation",
    "SequenceGenerator",
    "check_decoder",
    "default_decoder",
    "family_of",
    "fit_target_start",
    "load_model",
    "load_rescorer",
    "max_source_length",
    "model_folder",
    "sources_of",
    "with_languages",
]
