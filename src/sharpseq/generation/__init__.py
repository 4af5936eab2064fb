"""Text in, text out: loading a model, writing with it, and a corpus in a teacher's words."""

from sharpseq.generation.decoder_choice import check_decoder, default_decoder, family_of
from sharpseq.generation.helping_models import drafter_of, load_drafter, load_rescorer
from sharpseq.generation.incomplete_outputs import ReachedLimits, incomplete_outputs
from sharpseq.generation.language_model_files import (
    LANGUAGE_MODEL_FILE,
    language_model_of,
    load_language_model,
    save_language_model,
)
from sharpseq.generation.model_loading import load_model, max_source_length, model_folder
from sharpseq.generation.sequence_generator import (
    Generation,
    SequenceGenerator,
    sources_of,
)
from sharpseq.generation.target_languages import fit_target_start, with_languages
from sharpseq.generation.tuned_decoding import (
    DECODING_FILE,
    TunedDecoding,
    read_tuned_decoding,
    write_tuned_decoding,
)

__all__ = [
    "DECODING_FILE",
    "LANGUAGE_MODEL_FILE",
    "Generation",
    "ReachedLimits",
    "SequenceGenerator",
    "TunedDecoding",
    "check_decoder",
    "default_decoder",
    "drafter_of",
    "family_of",
    "fit_target_start",
    "incomplete_outputs",
    "language_model_of",
    "load_drafter",
    "load_language_model",
    "load_model",
    "load_rescorer",
    "max_source_length",
    "model_folder",
    "read_tuned_decoding",
    "save_language_model",
    "sources_of",
    "with_languages",
    "write_tuned_decoding",
]
