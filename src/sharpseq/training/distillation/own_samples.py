"""Batches whose targets the student wrote itself (on-policy)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import ForcedBOSTokenLogitsProcessor, GenerationConfig, LogitsProcessor, LogitsProcessorList

from sharpseq.data import examples_of
from sharpseq.decoding.causal import pad_left
from sharpseq.decoding.library_search import without_defaults
from sharpseq.decoding.teacher_forcing import end_token_ids, forced_first_id, token_id
from sharpseq.scoring import IGNORED
from sharpseq.training.seeded_draws import seeded_draw
from sharpseq.training.trainer import collator_for

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
    chosen = [index for index, number in enumerate(batch["example_ids"].tolist()) if seeded_draw(seed, number) < share]
    if not chosen:
        return batch
    written = _sample(model, batch, chosen, temperature=temperature, seed=seed, helper=helper)
    examples = examples_of(batch, in_one_row=not model.config.is_encoder_decoder)
    for index, tokens in zip(chosen, written, strict=True):
        examples[index] = replace(examples[index], labels=tokens)
    collated = collator_for(model)(examples)
    return {**batch, **{name: values.to(batch["labels"].device) for name, values in collated.items()}}


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
    ends = end_token_ids(model)
    settings = {
        "do_sample": True,
        "temperature": temperature,
        "top_k": 0,
        "max_new_tokens": max(longest, 1),
        "eos_token_id": list(ends),
        # Many causal models name no padding. Padding is neither attended to nor scored.
        "pad_token_id": int(model.config.pad_token_id or 0),
    }
    ids, mask = batch["input_ids"][list(chosen)], batch["attention_mask"][list(chosen)]
    if model.config.is_encoder_decoder:
        settings["decoder_start_token_id"] = token_id(model, "decoder_start")
        num_given = 1
    else:
        # The prompts alone, which end where the outputs begin.
        ids, mask = pad_left(ids, mask * (batch["labels"][list(chosen)] == IGNORED))
        num_given = int(mask.sum(1).max())
        ids, mask = ids[:, -num_given:], mask[:, -num_given:]
    inputs = {"input_ids": ids, "attention_mask": mask}
    was_training, digest = model.training, hashlib.blake2b(seed.encode(), digest_size=4).digest()
    first_example = int(batch["example_ids"][chosen[0]])
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest, "little") + first_example)
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


def _until_end(tokens: list[int], *, ends: Sequence[int]) -> list[int]:
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens
