"""Writing a teacher's outputs for a corpus into a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import EncodedExample, TokenBudgetBatchSampler
from sharpseq.data.token_budget import side_lengths
from sharpseq.errors import UserError
from sharpseq.generation.fingerprints import fingerprint_of, vocabulary_fingerprint
from sharpseq.models.pretrained import is_causal
from sharpseq.training.distillation.targets import HeadTargets
from sharpseq.training.distillation.teacher_store import (
    StoredRows,
    StoreRecord,
    claim_store,
    example_key,
    write_part,
)
from sharpseq.training.distillation.teachers import labels_of, model_targets
from sharpseq.training.trainer import collator_for

_EXAMPLES_PER_PART = 1000
_LOGITS_TOGETHER = 2**24
"""Logits held together: 64 MiB in float32."""


@dataclass(frozen=True)
class TeachingReport:
    """What was written.

    Args:
        num_examples: Examples in the store.
        num_resumed: How many of them were there from before.
    """

    num_examples: int
    num_resumed: int


def teach(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[EncodedExample],
    folder: str | Path,
    *,
    k: int = 32,
    dtype: str = "float16",
    temperature: float = 1.0,
    batch_tokens: int = 4000,
    on_progress: Callable[[int], None] = lambda done: None,
) -> TeachingReport:
    """Store a teacher's most probable tokens at each position, and the probability of all others together.

    Interrupted, it goes on after the last whole part.

    Args:
        model: The teacher; a causal, seq2seq or one-pass model.
        tokenizer: Its tokenizer.
        examples: The encoded corpus; see `sharpseq.data.encode`.
        folder: The store; it is made.
        k: Tokens kept at each position.
        dtype: ``float16``, ``bfloat16`` or ``float32``.
        temperature: Divides the logits.
        batch_tokens: Token budget of a batch.
        on_progress: Called with the number of examples written so far.

    Raises:
        ValueError: If ``k`` is not in [1, V], or ``temperature`` is not positive.
        UserError: If the folder is another store, or cannot be written.
    """
    vocab_size = int(model.config.get_text_config().vocab_size)
    if not 1 <= k <= vocab_size:
        raise ValueError(f"`k` must be in [1, {vocab_size}], the vocabulary; got {k}")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be greater than 0; got {temperature:g}")
    if not examples:
        raise UserError("there are no examples to teach; give a corpus with at least one line")
    path = Path(folder)
    record = StoreRecord(
        k=k,
        dtype=dtype,
        temperature=float(temperature),
        positions="frames" if getattr(model, "predicts_frames", False) else "tokens",
        vocab_size=vocab_size,
        vocabulary=vocabulary_fingerprint(tokenizer),
        teacher=fingerprint_of(model, tokenizer),
        data=_fingerprint_of_examples(examples),
        num_examples=len(examples),
        examples_per_part=_EXAMPLES_PER_PART,
    )
    begun = claim_store(path, record)
    model.eval()
    for number in range(begun, record.num_parts):
        on_progress(number * _EXAMPLES_PER_PART)
        part = examples[number * _EXAMPLES_PER_PART : (number + 1) * _EXAMPLES_PER_PART]
        rows = _rows_of(model, part, k=k, temperature=temperature, batch_tokens=batch_tokens)
        keys = [example_key(example.input_ids, example.labels) for example in part]
        write_part(path, number, keys=keys, rows=rows, dtype=dtype)
    on_progress(len(examples))
    return TeachingReport(len(examples), min(begun * _EXAMPLES_PER_PART, len(examples)))


def _rows_of(
    model: Any, examples: Sequence[EncodedExample], *, k: int, temperature: float, batch_tokens: int
) -> list[StoredRows]:
    """Return what the teacher says of each example, in their order."""
    collate = collator_for(model)
    lengths = side_lengths(examples, in_one_row=is_causal(model.config))
    longest = max(max(pair) for pair in zip(*lengths, strict=True))
    batches = TokenBudgetBatchSampler(*lengths, batch_tokens=max(batch_tokens, longest), shuffle=False)
    rows_together = max(_LOGITS_TOGETHER // int(model.config.get_text_config().vocab_size), 1)
    found: dict[int, StoredRows] = {}
    for places in batches:
        batch = collate([examples[place] for place in places])
        inputs = {name: value.to(model.device) for name, value in batch.items() if name != "example_ids"}
        targets = model_targets(model, inputs)
        labels = labels_of(model, inputs, len(targets.hidden_states))
        best = _best(targets, labels, k=k, temperature=temperature, rows_together=rows_together)
        counts = targets.counts.tolist()
        parts = [torch.split(column.cpu(), counts) for column in best]
        found.update(zip(places, (StoredRows(*columns) for columns in zip(*parts, strict=True)), strict=True))
    return [found[place] for place in range(len(examples))]


@torch.no_grad()
def _best(
    targets: HeadTargets, labels: Tensor, *, k: int, temperature: float, rows_together: int
) -> tuple[Tensor, ...]:
    """Return the columns of `StoredRows` for all positions."""
    parts = []
    for rows, wanted in zip(targets.hidden_states.split(rows_together), labels.split(rows_together), strict=True):
        logits = targets.head(rows).float() / temperature
        log_probs = logits.log_softmax(-1)
        best, ids = log_probs.topk(k, dim=-1)
        others = log_probs.scatter(1, ids, -torch.inf)
        # Without anything left the sum is empty, and its logarithm −inf.
        tail = others.logsumexp(1) if k < log_probs.shape[1] else torch.full_like(best[:, 0], -torch.inf)
        of_label = log_probs.gather(1, wanted.clamp(min=0)[:, None])[:, 0].masked_fill(wanted < 0, -torch.inf)
        parts.append((ids, best, tail, of_label))
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def _fingerprint_of_examples(examples: Sequence[EncodedExample]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example_key(example.input_ids, example.labels).to_bytes(8, "little", signed=True))
    return digest.hexdigest()
