"""Greedy and beam search of a causal language model that continues prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache, LogitsProcessorList

from sharpseq.decoding.inference import inference
from sharpseq.decoding.left_padding import pad_left
from sharpseq.decoding.length_limits import new_token_limits, reached_new_token_limits
from sharpseq.decoding.library_search import LengthLimiter, NoRepeatedOutput, search_config, without_defaults
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.plain_caches import is_plain_cache
from sharpseq.decoding.processors import Processor
from sharpseq.decoding.protocols import AutoregressiveModel, Batch, second_prompt_of
from sharpseq.decoding.teacher_forcing import end_token_ids
from sharpseq.scoring import IGNORED, length_mask, score_model


def causal_decode(
    model: AutoregressiveModel,
    batch: Batch,
    *,
    min_new_tokens: int,
    max_new_tokens: int | None,
    **options: Any,
) -> DecodeOutput:
    """Continue prompts; :func:`sharpseq.decoding.autoregressive_decode` says how, and checks its own options.

    Args:
        model: A Hugging Face causal language model.
        batch: Prompts ``input_ids`` (B, S) and ``attention_mask`` (B, S), padded on either side.
        min_new_tokens: Least number of new tokens, without EOS.
        max_new_tokens: Largest number of new tokens, without EOS.
        options: Further options of the search.

    Raises:
        ValueError: If a prompt is empty, or a length exceeds the model's positions.
    """
    prompts, mask = pad_left(batch["input_ids"], batch["attention_mask"])
    limits = new_token_limits(model, mask.sum(1), min_new_tokens=min_new_tokens, max_new_tokens=max_new_tokens)
    room = _room(model, mask, min_new_tokens=min_new_tokens)
    if room is not None:
        limits = limits.minimum(room)
    ends = end_token_ids(model)
    pad = model.config.pad_token_id if model.config.pad_token_id is not None else ends[0]
    parts = []
    groups = _groups_within_positions(mask.sum(1), limits, positions=_positions(model))
    for rows in groups:
        width = int(mask[rows].sum(1).max())
        parts.append(
            _decode_group(
                model,
                prompts[rows, -width:],
                mask[rows, -width:],
                second={name: tensor[rows] for name, tensor in second_prompt_of(batch).items()},
                limits=limits[rows],
                end_token_ids=ends,
                pad_token_id=pad,
                min_new_tokens=min_new_tokens,
                **options,
            )
        )
    whole = parts[0] if len(parts) == 1 else _joined(parts, groups, pad_token_id=pad)
    return replace(whole, reached_limits=reached_new_token_limits(whole.num_tokens, limits, room=room))


def _decode_group(
    model: AutoregressiveModel,
    prompts: Tensor,
    mask: Tensor,
    *,
    second: Batch,
    limits: Tensor,
    end_token_ids: tuple[int, ...],
    pad_token_id: int,
    num_beams: int,
    no_repeat_ngram_size: int,
    processors: Sequence[Processor],
    **options: Any,
) -> DecodeOutput:
    num_given = prompts.shape[1]
    config = search_config(
        model,
        end_token_ids=end_token_ids,
        max_new_tokens=int(limits.max()),
        num_beams=num_beams,
        pad_token_id=pad_token_id,
        **options,
    )
    inputs = {"input_ids": prompts, "attention_mask": mask, **second}
    limiter = LengthLimiter(
        limits.repeat_interleave(num_beams),
        end_token_ids=end_token_ids,
        num_given=num_given,
        processors=[each.bind(model, inputs) for each in processors],
    )
    steps = LogitsProcessorList([limiter])
    if no_repeat_ngram_size:
        # The library's own option would forbid the n-grams of the prompt too, which a summary may well repeat.
        steps.insert(0, NoRepeatedOutput(no_repeat_ngram_size, num_given=num_given))
    with inference(model):
        read = _read(model, prompts[:, :-1], mask[:, :-1])
        generated = without_defaults(model).generate(
            input_ids=prompts,
            attention_mask=mask,
            generation_config=config,
            logits_processor=steps,
            **({} if read is None else {"past_key_values": _copies(read, num_beams)}),
        )[:, num_given:]
        is_end = torch.isin(generated, torch.tensor(end_token_ids, device=generated.device))
        num_tokens = (is_end.cumsum(1) == 0).sum(1)
        longest = int(num_tokens.max())
        log_prob = _log_prob(
            model, prompts, mask, read, written=generated[:, : longest + 1], num_written=num_tokens + 1
        )
    sequences = generated[:, :longest].masked_fill(~length_mask(num_tokens, width=longest), pad_token_id)
    return DecodeOutput(sequences=sequences, log_prob=log_prob, num_tokens=num_tokens, num_passes=limiter.num_steps)


def _read(model: AutoregressiveModel, prompts: Tensor, mask: Tensor) -> Cache | None:
    """Return the keys and values of prompts (B, S), so that the search and the scoring need not read them again.

    Returns None if there is nothing to read, and for models that take no positions or cache more than keys and
    values: these read every prompt again, once for each beam.
    """
    # Without the output head, which would copy its weight for each row: no logits are needed here.
    body = cast(nn.Module, getattr(model, "base_model", model))
    if prompts.shape[1] == 0 or not {"past_key_values", "position_ids"} <= signature(body.forward).parameters.keys():
        return None
    cache: Cache = body(
        input_ids=prompts, attention_mask=mask, position_ids=_positions_of(mask), use_cache=True
    ).past_key_values
    return cache if is_plain_cache(cache) else None


def _copies(read: Cache, num_beams: int) -> Cache:
    """Return a cache for each beam, which grows without changing the one it was made from."""
    twin = copy.copy(read)
    twin.layers = [copy.copy(layer) for layer in read.layers]
    if num_beams > 1:
        twin.batch_repeat_interleave(num_beams)
    return twin


def _positions_of(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _log_prob(
    model: AutoregressiveModel,
    prompts: Tensor,
    mask: Tensor,
    read: Cache | None,
    *,
    written: Tensor,
    num_written: Tensor,
) -> Tensor:
    """Return log p(y, eos|x) in nats, shape (B,), of the outputs, EOS included, (B, T)."""
    kept = length_mask(num_written, width=written.shape[1])
    row = torch.cat([prompts, written], dim=1)
    row_mask = torch.cat([mask, kept.long()], dim=1)
    labels = torch.cat([torch.full_like(prompts, IGNORED), written.masked_fill(~kept, IGNORED)], dim=1)
    scored = {"input_ids": row, "labels": labels}
    if read is not None:
        start = prompts.shape[1] - 1
        scored |= {"position_ids": _positions_of(row_mask)}
        batch: dict[str, Any] = {name: tensor[:, start:] for name, tensor in scored.items()}
        batch |= {"attention_mask": row_mask, "past_key_values": read}
    else:
        # Padding to the right, as in training: then every model counts positions from the first token of the prompt.
        order = row_mask.argsort(dim=1, descending=True, stable=True)
        scored |= {"attention_mask": row_mask}
        batch = {name: tensor.gather(1, order) for name, tensor in scored.items()}
    return score_model(cast(nn.Module, model), batch).log_prob


def _room(model: AutoregressiveModel, mask: Tensor, *, min_new_tokens: int) -> Tensor | None:
    """Return how many tokens the positions leave for each output, without EOS, shape (B,); None for no limit."""
    positions = _positions(model)
    if positions is None:
        return None
    lengths = mask.sum(1)
    # EOS takes a position too, in training and when the output is scored.
    room = positions - 1 - lengths
    if int(room.min()) < min_new_tokens:
        raise ValueError(
            f"`batch` must leave room for `min_new_tokens` {min_new_tokens} and EOS in the model's {positions} "
            f"positions; got a prompt of {int(lengths.max())} tokens"
        )
    return room


def _positions(model: AutoregressiveModel) -> int | None:
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    return positions


def _groups_within_positions(lengths: Tensor, limits: Tensor, *, positions: int | None) -> list[list[int]]:
    """Split a batch into rows that can be decoded together: one group unless prompts nearly fill the positions.

    The search runs until its last row ends, and the positions of finished rows keep counting: a row with a long
    prompt would run out of learned positions if it shared a batch with a row that has a long output.
    """
    order = lengths.argsort(descending=True, stable=True).tolist()
    if positions is None or int(lengths.max() + limits.max()) < positions:
        return [list(range(len(order)))]
    groups: list[list[int]] = []
    for row in order:
        # The first row of a group has its longest prompt.
        if groups and int(lengths[groups[-1][0]] + limits[row]) < positions:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _joined(parts: list[DecodeOutput], groups: list[list[int]], *, pad_token_id: int) -> DecodeOutput:
    place = torch.tensor([row for group in groups for row in group]).argsort()
    longest = max(part.sequences.shape[1] for part in parts)
    sequences = [F.pad(part.sequences, (0, longest - part.sequences.shape[1]), value=pad_token_id) for part in parts]
    return DecodeOutput(
        sequences=torch.cat(sequences)[place],
        log_prob=torch.cat([part.log_prob for part in parts])[place],
        num_tokens=torch.cat([part.num_tokens for part in parts])[place],
        num_passes=sum(part.num_passes for part in parts),
    )
