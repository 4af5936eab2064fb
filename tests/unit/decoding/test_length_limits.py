"""Limits of output lengths: what they are by default, and which outputs reached them, for every kind of decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

from sharpseq.decoding import (
    DecodeOutput,
    ReachedLimit,
    argmax_decode,
    autoregressive_decode,
    ctc_best_path_decode,
    ctc_prefix_beam_search_decode,
    delta_inference_decode,
    longest_training_target,
    mask_predict_decode,
    remember_longest_target,
)
from sharpseq.scoring import DiagonalGaussian

RAISE, FULL = "raise the decoder's setting `max_new_tokens`", "the model has no more positions"


def reached(output: DecodeOutput) -> list[tuple[int, str] | None]:
    return [None if limit is None else (limit.num_tokens, limit.remedy) for limit in output.reached_limits]


def endless_llama() -> LlamaForCausalLM:
    """A causal model of 40 positions that never ends by itself."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 1, "eos_token_id": 19, "bos_token_id": 3}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, max_position_embeddings=40, **sizes, **ids)).eval()
    with torch.no_grad():
        # All logits are equal, and the lowest id wins.
        model.lm_head.weight.zero_()
    return model


@pytest.mark.parametrize("num_beams", [1, 3])
def test_autoregressive_outputs_as_long_as_their_limit_say_so(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], num_beams: int
) -> None:
    model = m2m100(27, eos_scale=2.0)
    output = autoregressive_decode(model, batch, num_beams=num_beams, max_new_tokens=8)
    assert reached(output) == [(8, RAISE) if count == 8 else None for count in output.num_tokens.tolist()]
    assert None in output.reached_limits, "some outputs end by themselves"
    full = autoregressive_decode(model, batch, num_beams=num_beams, min_new_tokens=31)
    assert reached(full) == [(31, FULL)] * 4


def test_the_default_follows_the_longest_target_of_the_training(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = m2m100(1)
    lengths = batch["attention_mask"].sum(1)
    unknown = autoregressive_decode(model, batch)
    assert reached(unknown) == [(n, RAISE if n < 31 else FULL) for n in (2 * lengths + 10).clamp(max=31).tolist()]
    remember_longest_target(model, 3)
    assert reached(autoregressive_decode(model, batch)) == [(13, RAISE)] * 4
    remember_longest_target(model, 20)
    assert reached(autoregressive_decode(model, batch)) == [(30, RAISE)] * 4
    remember_longest_target(model, 26)
    assert reached(autoregressive_decode(model, batch)) == [(31, FULL)] * 4
    assert reached(autoregressive_decode(model, batch, max_new_tokens=5)) == [(5, RAISE)] * 4
    model.save_pretrained(tmp_path)
    assert longest_training_target(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)) == 26


def test_a_prompt_and_its_output_share_the_positions() -> None:
    model = endless_llama()
    prompts = torch.tensor([[3, *[5] * 36], [1] * 33 + [3, 5, 6, 7]])
    batch = {"input_ids": prompts, "attention_mask": (prompts != 1).long()}
    remember_longest_target(model, 8)
    assert reached(autoregressive_decode(model, batch)) == [(2, FULL), (18, RAISE)]
    assert reached(autoregressive_decode(model, batch, max_new_tokens=2)) == [(2, FULL), (2, RAISE)]


@pytest.mark.parametrize("decode", [argmax_decode, mask_predict_decode])
def test_the_lengths_that_can_be_predicted_are_a_limit(
    decode: Callable[..., DecodeOutput], parallel_model: Callable[..., Any]
) -> None:
    lengths = torch.tensor([[1, 2, 3], [3, 4, 5], [5, 6, 7]])
    log_probs = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]]).log()
    logits = lambda ids, lengths, observed: torch.zeros(len(lengths), int(lengths.max()), 9)  # noqa: E731
    batch = {"input_ids": torch.tensor([[5, 0], [6, 0], [7, 0]]), "attention_mask": torch.ones(3, 2)}
    output = decode(parallel_model(lengths, log_probs, logits, max_target_positions=6), batch, length_beam=1)
    assert output.num_tokens.tolist() == [3, 4, 6]
    assert reached(output) == [
        (3, "the length predictor knows no longer ones for these sources"),
        None,
        (6, "the model needs a larger `max_target_positions`, and training with it"),
    ]


def test_a_limit_counts_before_repetitions_are_removed(latent_model: Callable[..., Any]) -> None:
    normal = lambda ids, lengths: DiagonalGaussian(*torch.zeros(2, len(lengths), int(lengths.max()), 1))  # noqa: E731
    logits = lambda latent, ids, lengths: torch.zeros(*latent.shape[:2], 9)  # noqa: E731
    model = latent_model(torch.tensor([[2, 9]]), torch.tensor([[0.1, 0.9]]).log(), prior=normal, logits=logits)
    output = delta_inference_decode(
        model, {"input_ids": torch.tensor([[5]]), "attention_mask": torch.ones(1, 1)}, steps=0
    )
    assert output.num_tokens.tolist() == [1]
    assert reached(output) == [(9, "the length predictor knows no longer ones for these sources")]


@pytest.mark.parametrize("decode", [ctc_best_path_decode, ctc_prefix_beam_search_decode])
def test_ctc_outputs_that_need_every_frame_say_so(
    decode: Callable[..., DecodeOutput], ctc_model: Callable[..., Any]
) -> None:
    alignments = torch.tensor([[5, 6, 7], [5, 1, 5], [5, 1, 6], [5, 5, 5]])
    logits = 20.0 * torch.nn.functional.one_hot(alignments, 9).double()
    batch = {"input_ids": torch.zeros(4, 1, dtype=torch.long), "attention_mask": torch.ones(4, 1)}
    limit = (3, "the model needs a larger `upsampling_factor`, and training with it")
    assert reached(decode(ctc_model(logits), batch)) == [limit, limit, None, None]


def test_a_model_without_a_generation_configuration_remembers_nothing() -> None:
    model = object()
    remember_longest_target(model, 9)
    assert longest_training_target(model) is None
    assert ReachedLimit(9, "x") == ReachedLimit(9, "x")
