"""Batches whose targets the student wrote itself (on-policy)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import ForcedBOSTokenLogitsProcessor, GenerationConfig, LogitsProcessor, LogitsProcessorList

from sharpseq.data import pad_rows
from sharpseq.decoding.library_search import without_defaults
from sharpseq.decoding.teacher_forcing import forced_first_id, token_id
from sharpseq.scoring import IGNORED

Helper: TypeAlias = Callable[[dict[str, Tensor]], LogitsProcessor]


def with_own_samples(
    model: Any, batch: dict[str, Any], *, share: float, temperature: float, seed: str, helper: Helper | None = None
) -> dict[str, Any]:
    """Replace the targets of some examples of a batch by samples of the model.

    Which examples are chosen depends on ``seed`` and their indices alone, so that it is the same however the batch was
    put together. What is sampled also depends on the batch. A sample ends with EOS, or after as many tokens as the
    longest target of the batch has, then without EOS.

    Args:
        model: An autoregressive model, causal or seq2seq, not wrapped for data parallelism.
        batch: From the collator, with ``example_ids``, on the model's device.
        share: Share of the examples, in [0, 1].
        temperature: Divides the logits; greater than 0.
        seed: Decides everything that is random.
        helper: Makes a processor of the model's logits from the inputs of `generate`, such as a mixture with a teacher.

    Raises:
        ValueError: If the model does not write one token after the other.
    """
    if hasattr(model, "scores_labels"):
        raise ValueError(
            "`own_samples` must be 0: a one-pass student predicts all positions without reading a target, so its own "
            "samples would change nothing"
        )
    chosen = [index for index, number in enumerate(batch["example_ids"].tolist()) if _draw(seed, number) < share]
    if not chosen:
        return batch
    written = _sample(model, batch, chosen, temperature=temperature, seed=seed, helper=helper)
    pad = _pad_of(model)
    if model.config.is_encoder_decoder:
        labels = [row[row != IGNORED].tolist() for row in batch["labels"]]
        for index, tokens in zip(chosen, written, strict=True):
            labels[index] = tokens
        return {**batch, **_seq2seq_targets(model, labels, pad=pad, device=batch["labels"].device)}
    sources, targets = _prompts_and_targets(batch)
    for index, tokens in zip(chosen, written, strict=True):
        targets[index] = tokens
    return {**batch, **_causal_rows(sources, targets, pad=pad, device=batch["labels"].device)}


def _draw(seed: str, example: int) -> float:
    """Return a number in [0, 1) that depends on the seed and the example only."""
    digest = hashlib.blake2b(f"{seed} {example}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _pad_of(model: Any) -> int:
    # Many causal models name no padding. Padding is neither attended to nor scored.
    return int(model.config.pad_token_id or 0)


@torch.no_grad()
def _sample(
    model: Any,
    batch: dict[str, Any],
    chosen: Sequence[int],
    *,
    temperature: float,
    seed: str,
    helper: Helper | None,
) -> list[list[int]]:
    """Return the tokens that the model writes for some examples, with EOS where it wrote one."""
    longest = int((batch["labels"] != IGNORED).sum(1).max())
    ends, pad = _end_ids(model), _pad_of(model)
    settings = {
        "do_sample": True,
        "temperature": temperature,
        "top_k": 0,
        "max_new_tokens": max(longest, 1),
        "eos_token_id": ends,
        "pad_token_id": pad,
    }
    if model.config.is_encoder_decoder:
        inputs = {name: batch[name][list(chosen)] for name in ("input_ids", "attention_mask")}
        settings["decoder_start_token_id"] = token_id(model, "decoder_start")
        num_given = 1
    else:
        prompts = [_prompts_and_targets(batch)[0][index] for index in chosen]
        inputs = _left_padded(prompts, pad=pad, device=batch["labels"].device)
        num_given = inputs["input_ids"].shape[1]
    was_training, digest = model.training, hashlib.blake2b(seed.encode(), digest_size=4).digest()
    ids = [int(batch["example_ids"][index]) for index in chosen]
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest, "little") + ids[0])
        try:
            model.eval()
            config = GenerationConfig(**settings)
            processors = LogitsProcessorList([] if helper is None else [helper(inputs)])
            first = forced_first_id(model)
            if first is not None:
                # After the helper, which has no say in it.
                processors.append(ForcedBOSTokenLogitsProcessor(first))
            rows = without_defaults(model).generate(**inputs, generation_config=config, logits_processor=processors)
            rows = rows[:, num_given:]
        finally:
            model.train(was_training)
    return [_until_end(row.tolist(), ends=ends) for row in rows]


def _end_ids(model: Any) -> list[int]:
    end = model.config.eos_token_id
    return list(end) if isinstance(end, list | tuple) else [end]


def _until_end(tokens: list[int], *, ends: Sequence[int]) -> list[int]:
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens


def _seq2seq_targets(model: Any, labels: list[list[int]], *, pad: int, device: torch.device) -> dict[str, Tensor]:
    padded = pad_rows(labels, filler=IGNORED).to(device)
    previous = torch.roll(padded, 1, dims=1)
    previous[:, 0] = token_id(model, "decoder_start")
    return {"labels": padded, "decoder_input_ids": previous.masked_fill(previous == IGNORED, pad)}


def _prompts_and_targets(batch: dict[str, Any]) -> tuple[list[list[int]], list[list[int]]]:
    sources, targets = [], []
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        sources.append(ids[mask.bool() & (labels == IGNORED)].tolist())
        targets.append(labels[labels != IGNORED].tolist())
    return sources, targets


def _causal_rows(
    sources: list[list[int]], targets: list[list[int]], *, pad: int, device: torch.device
) -> dict[str, Tensor]:
    rows = [source + target for source, target in zip(sources, targets, strict=True)]
    labels = [[IGNORED] * len(source) + target for source, target in zip(sources, targets, strict=True)]
    return {
        "input_ids": pad_rows(rows, filler=pad).to(device),
        "attention_mask": pad_rows([[1] * len(row) for row in rows], filler=0).to(device),
        "labels": pad_rows(labels, filler=IGNORED).to(device),
    }


def _left_padded(rows: list[list[int]], *, pad: int, device: torch.device) -> dict[str, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}
