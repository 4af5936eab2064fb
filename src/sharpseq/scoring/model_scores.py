"""Sequence scores of any model: ours, or a Hugging Face causal or seq2seq one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import scores_from_logits


def score_model(model: nn.Module, batch: Mapping[str, Any], *, uniform: bool = False) -> SequenceScores:
    """Score the labels of a batch under a model, wrapped for data parallelism or not.

    Args:
        model: One of our models, whose forward returns `SequenceScores`; or a Hugging Face causal or seq2seq language
            model, whose logits are scored (a causal model's logits are shifted by one, and its first label is never
            scored).
        batch: Keyword arguments of the forward, with ``labels`` (B, T), −100 where nothing is scored. A seq2seq batch
            brings its own ``decoder_input_ids``: some models would otherwise train on the wrong ones without a word.
        uniform: Also compute ``uniform_log_prob``.

    Returns:
        Scores of shape (B,).

    Raises:
        ValueError: If the batch has no labels, or a seq2seq batch has no ``decoder_input_ids``.
    """
    if "labels" not in batch:
        raise ValueError("`batch` must have `labels` to score")
    unwrapped: Any = getattr(model, "module", model)
    if hasattr(unwrapped, "scores_labels"):
        scores: SequenceScores = model(**batch, uniform=uniform)
        return scores
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch["labels"]
    is_encoder_decoder = unwrapped.config.is_encoder_decoder
    if is_encoder_decoder and "decoder_input_ids" not in inputs:
        raise ValueError("`batch` must have `decoder_input_ids` for a seq2seq model: use a collator that makes them")
    logits = model(**inputs).logits
    if not is_encoder_decoder:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return scores_from_logits(logits, labels, uniform=uniform)
