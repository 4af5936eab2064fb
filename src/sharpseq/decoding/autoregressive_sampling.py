"""Samples of models that write one token after the other, the same whatever the batch around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import ForcedBOSTokenLogitsProcessor, GenerationConfig, LogitsProcessor, LogitsProcessorList

from sharpseq.decoding.inference import inference
from sharpseq.decoding.left_padding import pad_left
from sharpseq.decoding.library_search import without_defaults
from sharpseq.decoding.one_pass_sampling import SampledOutputs
from sharpseq.decoding.protocols import AutoregressiveModel, Batch, second_prompt_of
from sharpseq.decoding.random_choice import choose_at_random
from sharpseq.decoding.teacher_forcing import end_token_ids, forced_first_id, token_id

Helper: TypeAlias = Callable[[dict[str, Tensor]], Sequence[LogitsProcessor]]
"""Makes processors of the model's logits from the inputs of `generate`, such as a mixture with a teacher."""


def sample_autoregressive(
    model: AutoregressiveModel,
    batch: Batch,
    uniforms: Tensor,
    *,
    temperature: float = 1.0,
    helper: Helper | None = None,
    forbidden: Sequence[int] = (),
) -> SampledOutputs:
    """Draw each token from the model's distribution, until EOS or for as many tokens as there are numbers.

    Special tokens are drawn as often as the model says. Some models number the positions after padding in another way
    when they read a whole output; a trained model does not draw padding.

    Args:
        model: A causal or an encoder-decoder model.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S) of sources, or of prompts alone for a causal model,
            padded on either side.
        uniforms: Numbers in [0, 1) for each token of each sample, shape (B·K, T).
        temperature: Divides the logits; greater than 0.
        helper: Changes the logits before a token is drawn from them.
        forbidden: Token ids that are never drawn, which changes the distribution.

    Returns:
        The samples with EOS, where they have one, and with a forced first token, which has log-probability 0; lengths
        and log-probabilities include both.
    """
    ends = end_token_ids(model)
    # Many causal models name no padding. Padding is neither attended to nor scored.
    pad = int(model.config.pad_token_id or 0)
    settings: dict[str, Any] = {
        "do_sample": False,
        "max_new_tokens": uniforms.shape[1],
        "eos_token_id": list(ends),
        "pad_token_id": pad,
        "suppress_tokens": list(forbidden) or None,
    }
    ids, mask = batch["input_ids"], batch["attention_mask"].long()
    num_given = 1
    if model.config.is_encoder_decoder:
        settings["decoder_start_token_id"] = token_id(model, "decoder_start")
    else:
        ids, mask = pad_left(ids, mask)
        num_given = int(mask.sum(1).max())
        ids, mask = ids[:, -num_given:], mask[:, -num_given:]
    num_samples = len(uniforms) // len(ids)
    inputs = {
        "input_ids": ids.repeat_interleave(num_samples, 0),
        "attention_mask": mask.repeat_interleave(num_samples, 0),
    }
    with inference(model):
        second = {name: rows.repeat_interleave(num_samples, 0) for name, rows in second_prompt_of(batch).items()}
        processors = LogitsProcessorList(() if helper is None else helper({**inputs, **second}))
        first = forced_first_id(model)
        if first is not None:
            # After the helper, which has no say in it.
            processors.append(ForcedBOSTokenLogitsProcessor(first))
        draws = _Draws(uniforms.to(ids.device), num_given=num_given, temperature=temperature)
        processors.append(draws)
        written = without_defaults(model).generate(
            **inputs, generation_config=GenerationConfig(**settings), logits_processor=processors
        )[:, num_given:]
    is_end = torch.isin(written, torch.tensor(ends, device=written.device))
    ended_before = is_end.cumsum(1) - is_end.long() > 0
    num_tokens = (~ended_before).sum(1)
    log_probs = torch.stack(draws.log_probs, dim=1)[:, : written.shape[1]].masked_fill(ended_before, 0.0)
    return SampledOutputs(written.masked_fill(ended_before, pad), num_tokens, log_probs.sum(1), log_probs)


class _Draws(LogitsProcessor):
    """Draws a token at each step and leaves it alone in the running, so that a greedy search must take it."""

    def __init__(self, uniforms: Tensor, *, num_given: int, temperature: float) -> None:
        self.uniforms, self.num_given, self.temperature = uniforms, num_given, temperature
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores (R, V) that are 0 for the token drawn and −inf for all others."""
        place = input_ids.shape[1] - self.num_given
        drawn = choose_at_random(scores, self.uniforms[:, place : place + 1], temperature=self.temperature)
        log_probs = (scores.float() if scores.dtype != torch.float64 else scores) / self.temperature
        self.log_probs.append(log_probs.log_softmax(-1).gather(1, drawn)[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)
