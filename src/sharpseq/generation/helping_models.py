"""Models that help another one write: they choose among its candidates, or draft what it verifies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from sharpseq.data import target_language_of
from sharpseq.decoding import Batch, DecodeOutput, Drafter, Rescorer, autoregressive_rescorer
from sharpseq.generation.decoder_choice import family_of
from sharpseq.generation.sequence_generator import SequenceGenerator


def load_rescorer(name_or_path: str | Path, *, tokenizer: PreTrainedTokenizerBase) -> Rescorer:
    """Load an autoregressive model that chooses between the candidates of another one.

    Args:
        name_or_path: A model folder, a run folder with a finished model in it, or a Hub id.
        tokenizer: The tokenizer of the model that writes the candidates.

    Raises:
        UserError: If there is no model, or it is broken.
        ValueError: If it is no encoder-decoder that writes token by token, or its vocabulary is another.
    """
    teacher = SequenceGenerator.from_pretrained(name_or_path, target_language=target_language_of(tokenizer))
    if family_of(teacher.model) != "autoregressive":
        raise ValueError("only an autoregressive model can rescore; give one")
    _check_vocabulary(teacher, tokenizer)
    model: Any = teacher.model
    return autoregressive_rescorer(model)


def load_drafter(name_or_path: str | Path, *, tokenizer: PreTrainedTokenizerBase) -> Drafter:
    """Load a one-pass model whose outputs an autoregressive one verifies, with its tuned decoding if it has one.

    Args:
        name_or_path: A model folder, or a run folder with a finished model in it.
        tokenizer: The tokenizer of the model that verifies.

    Raises:
        UserError: If there is no model, or it is broken.
        ValueError: If it writes token by token, or its vocabulary is another.
    """
    drafting = SequenceGenerator.from_pretrained(name_or_path)
    if family_of(drafting.model) == "autoregressive":
        raise ValueError("only a one-pass model can draft; give one")
    _check_vocabulary(drafting, tokenizer)
    return drafter_of(drafting)


def drafter_of(generator: SequenceGenerator) -> Drafter:
    """Return a drafter that decodes as a generator does; sources that its model cannot read get empty drafts."""

    def draft(batch: Batch) -> DecodeOutput:
        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(1)
        rows = (lengths <= generator.max_source_length).nonzero()[:, 0]
        if not len(rows):
            nothing = ids.new_zeros(len(ids))
            return DecodeOutput(ids[:, :0], nothing.float(), nothing, num_passes=0)
        readable = {name: tensor[rows, : int(lengths[rows].max())] for name, tensor in batch.items()}
        decoded = generator.decode(readable)
        sequences = ids.new_zeros(len(ids), decoded.sequences.shape[1]).index_copy(0, rows, decoded.sequences)
        log_prob = decoded.log_prob.new_zeros(len(ids)).index_copy(0, rows, decoded.log_prob)
        num_tokens = decoded.num_tokens.new_zeros(len(ids)).index_copy(0, rows, decoded.num_tokens)
        return DecodeOutput(sequences, log_prob, num_tokens, decoded.num_passes)

    return draft


def _check_vocabulary(helper: SequenceGenerator, tokenizer: PreTrainedTokenizerBase) -> None:
    if helper.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ValueError("it has another vocabulary; give one trained with the same tokenizer")
