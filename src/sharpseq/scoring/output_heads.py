"""Scoring inside the forward pass of a Hugging Face model, in place of its logits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from sharpseq.scoring.chosen_log_probs import chosen_log_probs, entropies
from sharpseq.scoring.head_scores import HeadScores, LogitMap, score_rows
from sharpseq.scoring.requests import ScoreRequest
from sharpseq.scoring.row_statistics import CHUNK_ELEMENTS, position_scores
from sharpseq.scoring.sequence_scores import SequenceScores
from sharpseq.scoring.token_scores import check_labels, scores_of_rows

_LOG = logging.getLogger(__name__)

_FITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether the logits of a model were seen to be what `LogitMap` makes of its head's outputs."""


@dataclass(frozen=True)
class Targets:
    """Which labels are scored.

    Args:
        labels: Labels aligned with the hidden states, shape (B, T), −100 where nothing is scored.
        sequence_ids: Of packed rows, shape (B, T).
    """

    labels: Tensor
    sequence_ids: Tensor | None


class LogitsDiffer(Exception):
    """The model does something to its head's outputs that sharpseq does not know."""


def output_head(model: Any) -> nn.Module | None:
    """Return the module that makes logits of a model, or None where scores cannot be computed inside it.

    Raises:
        ValueError: If the model has no output embedding.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"`model` {type(model).__name__} has no output embedding, so it has no probabilities to score; load it "
            "with a language modelling head (AutoModelForCausalLM, AutoModelForSeq2SeqLM)"
        )
    # ZeRO 3 gathers a weight for the head's own forward only, not for a backward that computes logits again.
    is_gathered = any(hasattr(parameter, "ds_id") for parameter in head.parameters())
    return None if is_gathered or not _FITS.get(model, True) else head


@contextmanager
def scoring_forward(model: nn.Module, head: nn.Module, targets: Targets, *, request: ScoreRequest) -> Iterator[None]:
    """Make ``model(**batch)`` return `SequenceScores` within the block, computed while its head is called.

    The scores are the output of the model's own forward, so that what wraps it (data parallelism, autocast, hooks)
    works as ever. The head answers with the logits of one position only, and what the model makes of them is compared
    with what `LogitMap` does, the first time a model is seen.

    Args:
        model: The model, not wrapped.
        head: Its output head.
        targets: What to score.
        request: What else to compute.

    Raises:
        LogitsDiffer: From the forward, if the logits would not be what the head's outputs suggest.
    """
    logit_map, bias = _logit_map(model), getattr(model, "final_logits_bias", None)
    extra_bias = bias.flatten() if isinstance(bias, Tensor) else None
    forward, head_forward = model.forward, head.forward
    calls: list[tuple[SequenceScores, Tensor]] = []

    def score(hidden: Tensor) -> Tensor:
        if any(isinstance(parameter, DTensor) for parameter in head.parameters()):
            raise ValueError(
                "`model` has an output embedding that is split over devices (tensor parallelism), which cannot be "
                "scored; use data parallelism or FSDP"
            )
        with torch.no_grad():
            probe: Tensor = head_forward(hidden[:1, :1])
        scores = _score(head, head_forward, hidden, probe.shape[-1], extra_bias, logit_map, targets, request)
        calls.append((scores, probe))
        return probe

    def forward_scores(*args: Any, **kwargs: Any) -> SequenceScores:
        output = forward(*args, **kwargs)
        if len(calls) != 1:
            raise LogitsDiffer("the output embedding is not called once")
        scores, probe = calls[0]
        if model not in _FITS:
            expected = logit_map(probe.double() if extra_bias is None else probe.double() + extra_bias)
            _check_logits(model, output.logits, expected)
        return with_router_loss(scores, output)

    # An instance attribute hides the method of the class; what was there before (accelerate sets one) comes back.
    with _attribute(model, "forward", forward_scores), _attribute(head, "forward", score):
        try:
            yield
        except LogitsDiffer as difference:
            _FITS[model] = False
            _LOG.warning("%s: %s; scoring from full logits, which takes more memory", type(model).__name__, difference)
            raise


def with_router_loss(scores: SequenceScores, output: Any) -> SequenceScores:
    """Return scores with what a mixture of experts says of its routing, as the regularizer ``router``."""
    aux_loss: Tensor | None = getattr(output, "aux_loss", None)
    if aux_loss is None:
        return scores
    return replace(scores, regularizers={"router": aux_loss.to(scores.log_prob.device).expand_as(scores.log_prob)})


def _check_logits(model: nn.Module, logits: Tensor, expected: Tensor) -> None:
    if not expected.isfinite().all():
        return
    tolerance = 0.02 if logits.dtype in (torch.bfloat16, torch.float16) else 1e-4
    is_same = logits.shape == expected.shape and torch.allclose(
        logits.double(), expected.double(), rtol=tolerance, atol=tolerance * float(expected.abs().max().clamp(min=1))
    )
    if not is_same:
        raise LogitsDiffer("the logits are not a scaled, soft-capped output of its output embedding")
    _FITS[model] = True


@contextmanager
def _attribute(module: nn.Module, name: str, value: Callable[..., Any]) -> Iterator[None]:
    former = vars(module).get(name)
    setattr(module, name, value)
    try:
        yield
    finally:
        if former is None:
            delattr(module, name)
        else:
            setattr(module, name, former)


def _logit_map(model: nn.Module) -> LogitMap:
    """Read from the configuration what a model does to its head's outputs; a guess, compared once with the model."""
    config: Any = model.config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        scale *= getattr(text, name, None) or 1.0
    if getattr(text, "logits_scaling", None):
        scale *= text.logits_scaling if text.model_type == "hyperclovax" else 1 / text.logits_scaling
    return LogitMap(scale, getattr(text, "final_logit_softcapping", None))


def _score(
    head: nn.Module,
    head_forward: Callable[[Tensor], Tensor],
    hidden: Tensor,
    vocabulary: int,
    extra_bias: Tensor | None,
    logit_map: LogitMap,
    targets: Targets,
    request: ScoreRequest,
) -> SequenceScores:
    labels = targets.labels.to(hidden.device)
    if hidden.shape[:2] != labels.shape:
        raise ValueError(
            f"`labels` {tuple(labels.shape)} and the model's positions {tuple(hidden.shape[:2])} must agree"
        )
    scored = check_labels(labels, vocabulary=vocabulary)

    def logits_of(chunk: Tensor) -> Tensor:
        outputs = head_forward(chunk)
        return logit_map(outputs if extra_bias is None else outputs + extra_bias)

    if type(head) is nn.Linear:
        bias: Tensor | None = head.bias
        if extra_bias is not None:
            bias = extra_bias if bias is None else bias + extra_bias
        rows = score_rows(hidden[scored], head.weight, labels[scored], bias=bias, logit_map=logit_map, request=request)
    else:
        rows = _scores_in_chunks(logits_of, hidden[scored], labels[scored], vocabulary=vocabulary, request=request)
    scores = scores_of_rows(scored, *rows, sequence_ids=targets.sequence_ids, request=request)
    positions = position_scores(logits_of, hidden, scored, vocab_size=vocabulary, request=request)
    return scores if positions is None else replace(scores, positions=positions)


def _scores_in_chunks(
    logits_of: Callable[[Tensor], Tensor], rows: Tensor, targets: Tensor, *, vocabulary: int, request: ScoreRequest
) -> HeadScores:
    """Score with a head of any kind, such as one with an adapter: a few rows at a time, again in the backward pass."""

    def score(chunk: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = logits_of(chunk)
        log_probs, means = chosen_log_probs(logits, labels[:, None], with_mean=request.vocab_mean)
        log_prob = log_probs[:, 0]
        nothing = torch.zeros_like(log_prob)
        spread = entropies(logits) if request.entropy else nothing
        return log_prob, nothing if means is None else means, spread

    step = max(CHUNK_ELEMENTS // vocabulary, 1)
    parts = [
        checkpoint(score, rows[start : start + step], targets[start : start + step], use_reentrant=False)
        for start in range(0, max(len(rows), 1), step)
    ]
    return HeadScores(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
