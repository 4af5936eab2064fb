"""Data: from corpora to batches of token ids."""

from sharpseq.data.collators import CausalCollator, SequenceCollator, examples_of, pad_rows, source_batch
from sharpseq.data.conversations import read_alpaca, read_messages, stream_alpaca, stream_messages
from sharpseq.data.corpora import (
    read_jsonl,
    read_parallel_text,
    read_sources,
    read_tsv,
    stream_jsonl,
    stream_parallel_text,
    stream_tsv,
)
from sharpseq.data.encoding import EncodedExample, encode, encode_sources, prepare_sources
from sharpseq.data.examples import Example, Message
from sharpseq.data.filters import FilterReport, LengthFilter
from sharpseq.data.hugging_face_datasets import load_hugging_face_dataset, stream_hugging_face_dataset
from sharpseq.data.languages import (
    TargetStart,
    chosen_languages,
    languages_of,
    set_languages,
    target_language_of,
    target_start,
)
from sharpseq.data.pairs import EncodedPair, PairCollator, encode_pairs
from sharpseq.data.preferences import Preference, preferences_of, read_preferences, stream_preferences
from sharpseq.data.prompts import Prompt, attach_prompt, prompt_of
from sharpseq.data.pronouncing_dictionary import load_pronouncing_dictionary
from sharpseq.data.round_trip import RoundTrip, try_round_trip
from sharpseq.data.streaming import StreamingBatches
from sharpseq.data.text_files import iter_lines, read_lines
from sharpseq.data.token_budget import TokenBudgetBatchSampler
from sharpseq.data.tokenizers import end_token_id, load_tokenizer, train_tokenizer
from sharpseq.data.unicode_text import normalize_example, set_unicode_normalization, unicode_normalization_of
from sharpseq.data.unknown_characters import UnknownCharacters
from sharpseq.plain_text import UnicodeNormalization, is_blank, normalize_text, one_line

__all__ = [
    "CausalCollator",
    "EncodedExample",
    "EncodedPair",
    "Example",
    "FilterReport",
    "LengthFilter",
    "Message",
    "PairCollator",
    "Preference",
    "Prompt",
    "RoundTrip",
    "SequenceCollator",
    "StreamingBatches",
    "TargetStart",
    "TokenBudgetBatchSampler",
    "UnicodeNormalization",
    "UnknownCharacters",
    "attach_prompt",
    "chosen_languages",
    "encode",
    "encode_pairs",
    "encode_sources",
    "end_token_id",
    "examples_of",
    "is_blank",
    "iter_lines",
    "languages_of",
    "load_hugging_face_dataset",
    "load_pronouncing_dictionary",
    "load_tokenizer",
    "normalize_example",
    "normalize_text",
    "one_line",
    "pad_rows",
    "preferences_of",
    "prepare_sources",
    "prompt_of",
    "read_alpaca",
    "read_jsonl",
    "read_lines",
    "read_messages",
    "read_parallel_text",
    "read_preferences",
    "read_sources",
    "read_tsv",
    "set_languages",
    "set_unicode_normalization",
    "source_batch",
    "stream_alpaca",
    "stream_hugging_face_dataset",
    "stream_jsonl",
    "stream_messages",
    "stream_parallel_text",
    "stream_preferences",
    "stream_tsv",
    "target_language_of",
    "target_start",
    "train_tokenizer",
    "try_round_trip",
    "unicode_normalization_of",
]
