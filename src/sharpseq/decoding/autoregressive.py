"""Autoregressive decoding: greedy and beam search through `generate` of transformers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from sharpseq.decoding.inference import inference
from sharpseq.decoding.lengths import is_real
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import AutoregressiveModel, Batch
from sharpseq.decoding.teacher_forcing import teacher_forced_log_prob, token_id


def autoregressive_decode(
    model: AutoregressiveModel,
    batch: Batch,
    *,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    min_length: int = 0,
    max_length: int | None = None,
    no_repeat_ngram_size: int = 0,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    """Write one token after the other, greedily or with a beam.

    The search is `generate` of transformers, with three differences that make it repeatable:

    - Nothing comes from ``model.generation_config``, neither options nor forced tokens; only a special token id that
      ``model.config`` lacks is looked up there.
    - Lengths are limited for each source on its own, so that an output does not depend on its neighbours in the batch.
      An output that reaches its limit is ended there by an end mark, which keeps its probability.
    - Padding, begin, mask and decoder start are never written.

    Args:
        model: A Hugging Face encoder-decoder model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        num_beams: Hypotheses kept at each step; 1 is greedy search.
        length_penalty: Beam search ranks by log p / length^penalty, the end mark counted in the length; larger favours
            longer outputs. Without effect for one beam.
        min_length: Least number of tokens of an output, without the end mark.
        max_length: Largest number of tokens of an output, without the end mark. By default 2·S + 10 for a source of S
            tokens (padding not counted), at least ``min_length``, and no more than the model has positions for.
        no_repeat_ngram_size: No n-gram of this size occurs twice in an output; 0 is off, otherwise at least 2.
        generator: Accepted by every decoder; this one draws nothing.

    Returns:
        The outputs without special tokens. ``log_prob`` is log p(y, eos|x) in nats under the full softmax, the end mark
        included although ``num_tokens`` does not count it, from one teacher-forced pass over the finished outputs.
        ``num_passes`` counts the steps of the search, not that scoring pass.

    Raises:
        ValueError: If an option is out of its range, or a length exceeds the model's positions.

    Example:
        >>> from sharpseq.models import autoregressive_config, autoregressive_model
        >>> model = autoregressive_model(autoregressive_config(vocab_size=9, d_model=16))
        >>> batch = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.ones(1, 3)}
        >>> autoregressive_decode(model, batch, min_length=4, max_length=4).num_passes
        5

    References:
        Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7, for the length penalty's idea.
    """
    if num_beams < 1:
        raise ValueError(f"`num_beams` must be at least 1; got {num_beams}")
    if no_repeat_ngram_size < 0 or no_repeat_ngram_size == 1:
        # 1 would also forbid the end mark of models whose decoder starts with it.
        raise ValueError(f"`no_repeat_ngram_size` must be 0 (off) or at least 2; got {no_repeat_ngram_size}")
    input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    limits = _length_limits(model, attention_mask, min_length=min_length, max_length=max_length)
    eos, pad = token_id(model, "eos"), token_id(model, "pad")
    config = _generation_config(
        model,
        num_beams=num_beams,
        length_penalty=length_penalty,
        min_length=min_length,
        max_length=int(limits.max()),
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    limiter = LengthLimiter(limits.repeat_interleave(num_beams), eos_token_id=eos)
    with inference(model):
        hidden = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        generated = _without_defaults(model).generate(
            # `generate` expands what it is given in place, so it gets an object of its own.
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=attention_mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([limiter]),
        )[:, 1:]
        num_tokens = ((generated != eos) & (generated != pad)).sum(1)
        longest = int(num_tokens.max())
        sequences = generated[:, :longest].masked_fill(~is_real(num_tokens, width=longest), pad)
        log_prob = teacher_forced_log_prob(
            model,
            BaseModelOutput(last_hidden_state=hidden),
            attention_mask,
            sequences=sequences,
            num_tokens=num_tokens,
        )
    return DecodeOutput(sequences=sequences, log_prob=log_prob, num_tokens=num_tokens, num_passes=limiter.num_steps)


class LengthLimiter(LogitsProcessor):
    """Leaves only the end mark, with the score that it has, to a hypothesis that has reached its limit.

    Args:
        limits: Largest number of tokens of each hypothesis, without decoder start and end mark, shape (R,).
        eos_token_id: Id of the end mark.
    """

    def __init__(self, limits: Tensor, *, eos_token_id: int) -> None:
        self.limits = limits
        self.eos_token_id = eos_token_id
        self.shortest = int(limits.min())
        self.num_steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (R, V) of the next token after ``input_ids`` (R, t); called once in a step."""
        self.num_steps += 1
        num_written = input_ids.shape[1] - 1
        if num_written < self.shortest:
            return scores
        only_end = torch.full_like(scores, -torch.inf)
        only_end[:, self.eos_token_id] = scores[:, self.eos_token_id]
        return torch.where((num_written >= self.limits)[:, None], only_end, scores)


def _length_limits(
    model: AutoregressiveModel, attention_mask: Tensor, *, min_length: int, max_length: int | None
) -> Tensor:
    """Return the largest number of tokens of each output, without the end mark, shape (B,)."""
    positions = getattr(model.config, "max_position_embeddings", None)
    # The decoder start takes the first position.
    available = None if positions is None else positions - 1
    if min_length < 0:
        raise ValueError(f"`min_length` must be at least 0; got {min_length}")
    if max_length is not None and not min_length <= max_length:
        raise ValueError(f"`max_length` must be at least `min_length` {min_length}; got {max_length}")
    for name, length in (("min_length", min_length), ("max_length", max_length)):
        if available is not None and length is not None and length > available:
            raise ValueError(f"`{name}` must be at most {available}, the model's positions; got {length}")
    source_lengths = attention_mask.long().sum(1)
    if max_length is not None:
        return torch.full_like(source_lengths, max_length)
    return (2 * source_lengths + 10).clamp(min=min_length, max=available)


def _generation_config(model: AutoregressiveModel, *, max_length: int, min_length: int, **options: Any) -> Any:
    names = ("pad_token_id", "bos_token_id", "mask_token_id", "decoder_start_token_id")
    eos = token_id(model, "eos")
    special = {getattr(model.config, name, None) for name in names} - {None, eos}
    if options["num_beams"] == 1:
        options.pop("length_penalty")
    return GenerationConfig(
        **options,
        # The library's own compromise: stop when the best open hypothesis, at its present length, is behind.
        early_stopping=False,
        do_sample=False,
        use_cache=True,
        max_new_tokens=max_length + 1,
        min_new_tokens=min_length or None,
        suppress_tokens=sorted(special) or None,
        pad_token_id=token_id(model, "pad"),
        eos_token_id=eos,
        decoder_start_token_id=token_id(model, "decoder_start"),
    )


def _without_defaults(model: AutoregressiveModel) -> AutoregressiveModel:
    """Return the same model, weights shared, with an empty generation configuration.

    `generate` fills every option that is None from ``model.generation_config``, and for options such as forced tokens
    None is the only way to say "off". A shallow copy leaves the caller's object alone, also while another thread uses
    it.
    """
    twin = copy.copy(model)
    twin.generation_config = GenerationConfig()
    return twin
