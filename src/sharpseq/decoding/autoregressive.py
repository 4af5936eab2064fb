"""Autoregressive decoding: greedy and beam search through `generate` of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from transformers import ForcedBOSTokenLogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from sharpseq.declarations import Declaration, Setting, build_methods
from sharpseq.decoding.causal import causal_decode
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.inference import inference
from sharpseq.decoding.length_limits import new_token_limits, reached_new_token_limits
from sharpseq.decoding.library_search import LengthLimiter, search_config, without_defaults
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.processors import PROCESSORS, Processor
from sharpseq.decoding.protocols import AutoregressiveModel, Batch
from sharpseq.decoding.teacher_forcing import forced_first_id, room_for_output, teacher_forced_log_prob, token_id
from sharpseq.scoring import length_mask

LENGTH_PENALTIES = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
"""What tuning tries; only a search with several beams ranks by them."""


def autoregressive_decode(
    model: AutoregressiveModel,
    batch: Batch,
    *,
    num_beams: Annotated[int, Setting("Beams; 1 is greedy search.", ge=1)] = 1,
    length_penalty: Annotated[
        float, Setting("Power of the length that divides the score of a beam.", trials=LENGTH_PENALTIES)
    ] = 1.0,
    min_new_tokens: Annotated[int, Setting("Fewest tokens of an output, EOS not counted.", ge=0)] = 0,
    max_new_tokens: Annotated[
        int | None,
        Setting("Most tokens of an output, EOS not counted; by default, more than the longest training target.", ge=0),
    ] = None,
    no_repeat_ngram_size: Annotated[
        int, Setting("Length of n-grams that may not occur twice; 0 for no limit.", ge=0)
    ] = 0,
    processors: Annotated[
        Any, Setting("Changes of the next token's distribution, one or a list.", methods=PROCESSORS)
    ] = (),
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    """Write one token after the other, greedily or with a beam.

    A causal language model continues the prompts of the batch; the outputs are its new tokens alone. The search is
    `generate` of transformers, with four differences that make it repeatable:

    - Of ``model.generation_config`` little counts: an encoder-decoder model's ``forced_bos_token_id``, the token that
      each output begins with, such as the code of the target language; its ``forced_eos_token_id``, which gives EOS the
      probability 1 at the length limit of a beam search; its ``decoder_start_token_id``; other special token ids that
      ``model.config`` lacks; and the length of the longest target that our training noted there.
    - Each source has its own length limit, so that an output does not depend on its neighbours in the batch.
      An output that reaches its limit is ended there by EOS, which keeps its probability.
    - Padding, BOS, mask and decoder start tokens are never written.
    - Repeated n-grams are counted only in the output: an n-gram of the prompt may occur once more.

    Args:
        model: A Hugging Face encoder-decoder or causal language model, with or without adapters of PEFT.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S); prompts may be padded on either side.
        num_beams: Hypotheses kept at each step; 1 is greedy search.
        length_penalty: Beam search ranks by log p / length^penalty, with EOS counted in the length; larger values
            favour longer outputs. Without effect for one beam.
        min_new_tokens: Least number of tokens of an output, without EOS.
        max_new_tokens: Largest number of tokens of an output, EOS not counted. By default the length of the longest
            target of the training and half as much again, at least 10 more; for a model that was trained elsewhere,
            2·S + 10 for a source of S tokens (padding not counted). It is then at least ``min_new_tokens``, and no more
            than the model has positions for. A causal model's prompt, output and EOS share its positions: an output
            after a long prompt ends when they are used up.
        no_repeat_ngram_size: No n-gram of this size occurs twice in an output; 0 is off, otherwise at least 2.
        processors: Rows of `sharpseq.decoding.processors.PROCESSORS`, or one of them, as plain settings or made. They
            change what the search ranks by, in this order, after lengths and repetitions have forbidden what they
            forbid. Greedy search takes only some that can change which token is the most probable one.
        generator: Accepted by every decoder; this one draws no random numbers.

    Returns:
        The outputs without EOS and without the forced first token, which no length counts either. ``log_prob`` is
        log p(y, eos|x) in nats under the full softmax, given that token, EOS included although ``num_tokens`` does not
        count it, from one teacher-forced pass over the finished outputs. ``num_passes`` counts the steps of the search,
        not that scoring pass. ``reached_limits`` has the outputs as long as their limit, whether or not EOS was
        probable there.

    Raises:
        ValueError: If an option is out of its range, a length exceeds the model's positions, a prompt is empty, the
            adapters put tokens of their own before the input, or the processors change nothing or do not fit the model.

    Example:
        >>> from sharpseq.models import autoregressive_config, autoregressive_model
        >>> model = autoregressive_model(autoregressive_config(vocab_size=9, d_model=16))
        >>> batch = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.ones(1, 3)}
        >>> autoregressive_decode(model, batch, min_new_tokens=4, max_new_tokens=4).num_passes
        5

    References:
        Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7, for the length penalty's idea.
    """
    check_arguments(
        autoregressive_decode, num_beams=num_beams, min_new_tokens=min_new_tokens, length_penalty=length_penalty
    )
    if no_repeat_ngram_size < 0 or no_repeat_ngram_size == 1:
        # 1 would also forbid the EOS of models whose decoder starts with it.
        raise ValueError(f"`no_repeat_ngram_size` must be 0 (off) or at least 2; got {no_repeat_ngram_size}")
    model = _without_wrapper(model)
    check_lengths(model, min_new_tokens=min_new_tokens, max_new_tokens=max_new_tokens)
    options: dict[str, Any] = {
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "min_new_tokens": min_new_tokens,
    }
    options["no_repeat_ngram_size"] = no_repeat_ngram_size
    options["processors"] = build_methods(PROCESSORS, processors)
    if num_beams == 1:
        _check_greedy(options["processors"])
    if model.config.is_encoder_decoder:
        return _seq2seq_decode(model, batch, max_new_tokens=max_new_tokens, **options)
    return causal_decode(model, batch, max_new_tokens=max_new_tokens, **options)


def _seq2seq_decode(
    model: AutoregressiveModel,
    batch: Batch,
    *,
    min_new_tokens: int,
    max_new_tokens: int | None,
    num_beams: int,
    processors: Sequence[Processor],
    **options: Any,
) -> DecodeOutput:
    input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    room = room_for_output(model)
    source_lengths = attention_mask.long().sum(1)
    limits = new_token_limits(
        model, source_lengths, min_new_tokens=min_new_tokens, max_new_tokens=max_new_tokens
    ).clamp(min=0, max=room)
    eos, pad, first = token_id(model, "eos"), token_id(model, "pad"), forced_first_id(model)
    num_given = 1 if first is None else 2
    config = search_config(
        model,
        end_token_ids=(eos,),
        # The library counts a forced first token as new.
        max_new_tokens=int(limits.max()) + num_given - 1,
        min_new_tokens=min_new_tokens and min_new_tokens + num_given - 1,
        num_beams=num_beams,
        pad_token_id=pad,
        decoder_start_token_id=token_id(model, "decoder_start"),
        **options,
    )
    limiter = LengthLimiter(
        limits.repeat_interleave(num_beams),
        end_token_ids=(eos,),
        num_given=num_given,
        is_forced=getattr(model.generation_config, "forced_eos_token_id", None) is not None,
        processors=[each.bind(model, batch) for each in processors],
    )
    # Not through the configuration: there, a BOS token that is forced could not be suppressed later on.
    forced = [] if first is None else [ForcedBOSTokenLogitsProcessor(first)]
    with inference(model):
        hidden = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        generated = without_defaults(model).generate(
            # `generate` expands its argument in place, so it gets an object of its own.
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=attention_mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([*forced, limiter]),
        )[:, num_given:]
        num_tokens = ((generated != eos) & (generated != pad)).sum(1)
        longest = int(num_tokens.max())
        sequences = generated[:, :longest].masked_fill(~length_mask(num_tokens, width=longest), pad)
        log_prob = teacher_forced_log_prob(
            model,
            BaseModelOutput(last_hidden_state=hidden),
            attention_mask,
            sequences=sequences,
            num_tokens=num_tokens,
        )
    return DecodeOutput(
        sequences=sequences,
        log_prob=log_prob,
        num_tokens=num_tokens,
        num_passes=limiter.num_steps,
        reached_limits=reached_new_token_limits(num_tokens, limits, room=room),
    )


def _check_greedy(processors: Sequence[Processor]) -> None:
    if processors and all(each.keeps_best for each in processors):
        names = ", ".join(each.declaration.name for each in processors)
        raise ValueError(
            f"`processors` {names}: the most probable token stays the same, so greedy search would write the same; "
            "raise `num_beams`, or draw samples with the decoder best_of_n"
        )


def check_lengths(model: AutoregressiveModel, *, min_new_tokens: int, max_new_tokens: int | None) -> None:
    """Check the least and the largest number of new tokens.

    Raises:
        ValueError: If the first is above the second, or one exceeds the model's positions.
    """
    available = room_for_output(model)
    if max_new_tokens is not None and not min_new_tokens <= max_new_tokens:
        raise ValueError(f"`max_new_tokens` must be at least `min_new_tokens` {min_new_tokens}; got {max_new_tokens}")
    for name, length in (("min_new_tokens", min_new_tokens), ("max_new_tokens", max_new_tokens)):
        if available is not None and length is not None and length > available:
            raise ValueError(f"`{name}` must be at most {available}, the model's positions; got {length}")


def _without_wrapper(model: AutoregressiveModel) -> AutoregressiveModel:
    """Return the model whose layers hold PEFT's adapters: the wrapper's `generate` changes the model it wraps."""
    adapters: Any = getattr(model, "active_peft_config", None)
    if adapters is None:
        return model
    if adapters.is_prompt_learning:
        raise ValueError(f"`model` must have adapters inside its layers; got {adapters.peft_type}, which adds tokens")
    wrapped: Any = model
    base: AutoregressiveModel = wrapped.get_base_model()
    return base


AUTOREGRESSIVE = Decoder(
    autoregressive_decode,
    AutoregressiveModel,
    Declaration("autoregressive", "one token after the other, greedily or with a beam", "Sutskever et al. 2014"),
)
