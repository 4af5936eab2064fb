from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sharpseq.decoding import argmax_decode, autoregressive_decode, autoregressive_rescorer


@pytest.mark.parametrize("first", [None, 10])
def test_scores_are_the_decoder_s_own_log_probs(
    m2m100: Callable[..., Any], batch: dict[str, Tensor], first: int | None
) -> None:
    model = m2m100(27, eos_scale=2.0)
    model.generation_config.forced_bos_token_id = first
    outputs = [autoregressive_decode(model, batch, num_beams=n, max_new_tokens=20) for n in (1, 4)]
    assert not torch.equal(outputs[0].log_prob, outputs[1].log_prob)
    width = max(output.sequences.shape[1] for output in outputs)
    padded = [torch.nn.functional.pad(o.sequences, (0, width - o.sequences.shape[1]), value=1) for o in outputs]
    candidates = torch.stack(padded, dim=1).flatten(0, 1)
    num_tokens = torch.stack([output.num_tokens for output in outputs], dim=1).flatten()
    scores = autoregressive_rescorer(model)(batch, candidates, num_tokens)
    expected = torch.stack([output.log_prob / (output.num_tokens + 1) for output in outputs], dim=1).flatten()
    torch.testing.assert_close(scores, expected)


def test_what_stands_behind_a_candidate_plays_no_part(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    rescorer, num_tokens = autoregressive_rescorer(m2m100(3)), torch.tensor([3, 1, 0, 2])
    candidates = torch.randint(5, 20, (4, 3))
    behind = torch.arange(3) >= num_tokens[:, None]
    expected = rescorer(batch, candidates.masked_fill(behind, 1), num_tokens)
    torch.testing.assert_close(rescorer(batch, candidates, num_tokens), expected)
    assert expected.isfinite().all() and (expected < 0).all()


def test_chooses_among_lengths(
    m2m100: Callable[..., Any], parallel_model: Callable[..., Any], batch: dict[str, Tensor]
) -> None:
    def logits(input_ids: Tensor, lengths: Tensor, decoder_input_ids: Tensor | None) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, int(lengths.max()), 20, generator=generator).double().expand(len(lengths), -1, -1)

    lengths, log_probs = torch.arange(1, 7).repeat(4, 1), torch.full((4, 6), 1 / 6).log()
    one_pass = parallel_model(lengths, log_probs, logits)
    rescorer = autoregressive_rescorer(m2m100(27))
    plain = argmax_decode(one_pass, batch, length_beam=6)
    rescored = argmax_decode(one_pass, batch, length_beam=6, rescorer=rescorer)
    assert plain.num_tokens.tolist() != rescored.num_tokens.tolist()
    scores = rescored.trace["candidate_scores"]
    chosen = rescorer(batch, rescored.sequences, rescored.num_tokens)
    torch.testing.assert_close(chosen, scores.max(1).values)


def test_leaves_the_model_in_training_mode_and_ignores_dropout(
    m2m100: Callable[..., Any], batch: dict[str, Tensor]
) -> None:
    model = m2m100(3)
    candidates, num_tokens = torch.full((4, 2), 7), torch.full((4,), 2)
    expected = autoregressive_rescorer(model)(batch, candidates, num_tokens)
    model.train()
    torch.testing.assert_close(autoregressive_rescorer(model)(batch, candidates, num_tokens), expected)
    assert model.training


def test_candidates_must_divide_among_the_sources(m2m100: Callable[..., Any], batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"`sequences` must have a multiple of 4 rows; got 6"):
        autoregressive_rescorer(m2m100(3))(batch, torch.full((6, 2), 7), torch.full((6,), 2))


def test_a_causal_model_cannot_rescore() -> None:
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    with pytest.raises(ValueError, match=r"`model` must be an encoder-decoder model; got LlamaForCausalLM, a causal"):
        autoregressive_rescorer(LlamaForCausalLM(config))
