"""The search of transformers, `generate`, made repeatable: what every use of it shares."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, NoRepeatNGramLogitsProcessor

from sharpseq.decoding.protocols import AutoregressiveModel


class LengthLimiter(LogitsProcessor):
    """Leaves a hypothesis that has reached its limit only EOS, with its own score.

    Args:
        limits: Largest number of tokens of each hypothesis, without EOS, shape (R,).
        end_token_ids: Ids that end a hypothesis.
        num_given: Tokens in front of what is written: the decoder start with a forced first token, or a prompt with its
            padding.
        is_forced: Whether EOS at the limit has probability 1 in the search, as ``forced_eos_token_id`` makes it.
        processors: What changes the scores of hypotheses that have not reached their limit: one that forbids EOS must
            not forbid it there.
    """

    def __init__(
        self,
        limits: Tensor,
        *,
        end_token_ids: tuple[int, ...],
        num_given: int = 1,
        is_forced: bool = False,
        processors: Iterable[LogitsProcessor] = (),
    ) -> None:
        self.limits = limits
        self.end_token_ids = list(end_token_ids)
        self.num_given = num_given
        self.is_forced = is_forced
        self.shortest = int(limits.min())
        self.processors = tuple(processors)
        self.num_steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (R, V) of the next token after ``input_ids`` (R, t); called once in a step."""
        self.num_steps += 1
        num_written = input_ids.shape[1] - self.num_given
        if num_written < self.shortest:
            return self._changed(input_ids, scores)
        only_end = torch.full_like(scores, -torch.inf)
        only_end[:, self.end_token_ids] = 0.0 if self.is_forced else scores[:, self.end_token_ids]
        return torch.where((num_written >= self.limits)[:, None], only_end, self._changed(input_ids, scores))

    def _changed(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for processor in self.processors:
            scores = processor(input_ids, scores)
        return scores


class NoRepeatedOutput(LogitsProcessor):
    """Forbids what would repeat an n-gram of the output; a prompt in front of it may be repeated.

    Args:
        ngram_size: Length n, at least 2.
        num_given: Tokens of the prompt, with padding.
    """

    def __init__(self, ngram_size: int, *, num_given: int) -> None:
        self.num_given = num_given
        self.of_library = NoRepeatNGramLogitsProcessor(ngram_size)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (R, V) of the next token after ``input_ids`` (R, t)."""
        limited: Tensor = self.of_library(input_ids[:, self.num_given :], scores)
        return limited


def search_config(
    model: AutoregressiveModel,
    *,
    end_token_ids: tuple[int, ...],
    max_new_tokens: int,
    min_new_tokens: int,
    num_beams: int,
    length_penalty: float,
    **options: Any,
) -> GenerationConfig:
    """Return the configuration of a search that never writes padding, BOS, mask or decoder start tokens.

    Args:
        model: The model, whose special tokens count.
        end_token_ids: Ids that end an output.
        max_new_tokens: Largest number of tokens of an output, without EOS.
        min_new_tokens: Least number of tokens of an output, without EOS.
        num_beams: Hypotheses kept at each step.
        length_penalty: Exponent of the length; without effect for one beam.
        options: Further options of ``GenerationConfig``.
    """
    start = options.get("decoder_start_token_id")
    if num_beams > 1:
        options["length_penalty"] = length_penalty
    return GenerationConfig(
        **options,
        num_beams=num_beams,
        # The library's compromise: stop when the best open hypothesis scores lower, at its present length.
        early_stopping=False,
        do_sample=False,
        use_cache=True,
        max_new_tokens=max_new_tokens + 1,
        min_new_tokens=min_new_tokens or None,
        suppress_tokens=never_written(model, end_token_ids=end_token_ids, decoder_start=start) or None,
        eos_token_id=list(end_token_ids),
    )


def never_written(
    model: AutoregressiveModel, *, end_token_ids: tuple[int, ...], decoder_start: int | None
) -> list[int]:
    """Return the ids that no output contains: padding, BOS, mask and decoder start, unless they end an output."""
    names = ("pad_token_id", "bos_token_id", "mask_token_id")
    special = {getattr(model.config, name, None) for name in names} | {decoder_start}
    return sorted(token for token in special - {None, *end_token_ids} if token is not None)


def without_defaults(model: AutoregressiveModel) -> AutoregressiveModel:
    """Return the same model, weights shared, with an empty generation configuration.

    `generate` fills every option that is None from ``model.generation_config``, and for options such as forced tokens
    None is the only way to say "off". A shallow copy leaves the caller's object alone, also while another thread uses
    it.
    """
    twin = copy.copy(model)
    twin.generation_config = GenerationConfig()
    return twin
