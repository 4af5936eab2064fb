"""Data: from corpora to batches of token ids."""

from sharpseq.data.batches import TokenBudgetBatchSampler
from sharpseq.data.collators import SequenceCollator
from sharpseq.data.corpora import (
    jsonl,
    parallel_text,
    sources_only,
    stream_jsonl,
    stream_parallel_text,
    stream_tsv,
    tsv,
)
from sharpseq.data.encoding import EncodedExample, encode
from sharpseq.data.examples import Example
from sharpseq.data.filters import FilterReport, LengthFilter
from sharpseq.data.hugging_face_datasets import hugging_face_dataset, stream_hugging_face_dataset
from sharpseq.data.pronouncing_dictionary import pronouncing_dictionary
from sharpseq.data.streaming import StreamingBatches
from sharpseq.data.text_files import iter_lines, read_lines
from sharpseq.data.tokenizers import encode_sources, end_token_id, load_tokenizer, train_tokenizer

__all__ = [
    "EncodedExample",
    "Example",
    "FilterReport",
    "LengthFilter",
    "SequenceCollator",
    "StreamingBatches",
    "TokenBudgetBatchSampler",
    "encode",
    "encode_sources",
    "end_token_id",
    "hugging_face_dataset",
    "iter_lines",
    "jsonl",
    "load_tokenizer",
    "parallel_text",
    "pronouncing_dictionary",
    "read_lines",
    "sources_only",
    "stream_hugging_face_dataset",
    "stream_jsonl",
    "stream_parallel_text",
    "stream_tsv",
    "train_tokenizer",
    "tsv",
]
