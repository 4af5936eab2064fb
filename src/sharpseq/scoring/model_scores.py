"""Sequence scores of any model: ours, or a Hugging Face causal or seq2seq one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sharpseq.scoring.output_heads import LogitsDiffer, Targets, output_head, scoring_forward, with_router_loss
from sharpseq.scoring.requests import LABELS_ONLY, ScoreRequest
from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import IGNORED, score_logits


def score_model(
    model: nn.Module,
    batch: Mapping[str, Any],
    *,
    request: ScoreRequest = LABELS_ONLY,
    sequence_ids: Tensor | None = None,
) -> SequenceScores:
    """Score the labels of a batch under a model, wrapped for data parallelism or not.

    A Hugging Face model is scored from its hidden states, without its logits (B, T, V) ever being held: the scores are
    computed where its output embedding is called. Where that cannot be (a compiled forward, DeepSpeed ZeRO 3, a model
    that does something unknown to its logits), its full logits are scored instead.

    Args:
        model: One of our models, whose forward returns `SequenceScores`; or a Hugging Face causal or seq2seq language
            model, with or without adapters (a causal model predicts the label one position on, and its first label is
            never scored).
        batch: Keyword arguments of the forward, with ``labels`` (B, T), −100 where nothing is scored. A seq2seq batch
            brings its own ``decoder_input_ids``: some models would otherwise silently train on the wrong ones.
        request: What else to compute.
        sequence_ids: Of packed rows of a causal model: the number of the sequence that each label belongs to, from 0
            over the whole batch, shape (B, T). The first label of a sequence is not scored.

    Returns:
        Scores of shape (B,), or (S,) for S packed sequences.

    Raises:
        ValueError: If the batch has no labels or labels outside the vocabulary, a seq2seq batch has no
            ``decoder_input_ids``, or the model has no output embedding or one that is split over devices.
    """
    if "labels" not in batch:
        raise ValueError("`batch` must have `labels` to score")
    unwrapped: Any = getattr(model, "module", model)
    if hasattr(unwrapped, "scores_labels"):
        scores: SequenceScores = model(**batch, request=request)
        return scores
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    if hasattr(unwrapped.config, "use_cache"):
        # With a cache of keys, the boundaries that `position_ids` give to packed sequences would be overlooked.
        inputs.setdefault("use_cache", False)
    is_shifted = not unwrapped.config.is_encoder_decoder
    if not is_shifted and "decoder_input_ids" not in batch:
        raise ValueError("`batch` must have `decoder_input_ids` for a seq2seq model: use a collator that makes them")
    labels = aligned_labels(batch["labels"], shifted=is_shifted, sequence_ids=sequence_ids)
    targets = Targets(labels, sequence_ids)
    head = output_head(unwrapped)
    if head is not None and not hasattr(unwrapped, "_orig_mod"):
        try:
            with scoring_forward(unwrapped, head, targets, request=request):
                scores = model(**inputs)
            return scores
        except LogitsDiffer:
            pass  # said already; the logits themselves are right whatever the model does to them
    output = model(**inputs)
    scores = score_logits(output.logits, labels.to(output.logits.device), sequence_ids=sequence_ids, request=request)
    return with_router_loss(scores, output)


def aligned_labels(labels: Tensor, *, shifted: bool, sequence_ids: Tensor | None = None) -> Tensor:
    """Return the labels (B, T) that stand where a model predicts them.

    Args:
        labels: Target ids, shape (B, T), −100 where nothing is scored.
        shifted: Whether the model predicts label t at position t − 1, so that the first is never scored.
        sequence_ids: Of packed rows, whose labels are always shifted, as in `score_model`.

    Example:
        >>> aligned_labels(torch.tensor([[-100, 5, 6]]), shifted=True)
        tensor([[   5,    6, -100]])
    """
    if not shifted:
        return labels
    following = labels[:, 1:]
    if sequence_ids is not None:
        following = following.masked_fill(sequence_ids[:, 1:] != sequence_ids[:, :-1], IGNORED)
    return torch.cat([following, labels.new_full((len(labels), 1), IGNORED)], dim=1)
