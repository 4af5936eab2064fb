"""The bias of the blank in best path: its limits, and the model that runs once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DecodeOutput, RememberedPass, ctc_best_path_decode
from sharpseq.models import Ctc, CtcConfig

BLANK = 1


def batch_of(size: int) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(size, 1, dtype=torch.long), "attention_mask": torch.ones(size, 1)}


def outputs(output: DecodeOutput) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def by_hand(logits: Tensor, bias: float) -> tuple[int, ...]:
    """Best path of frames (F, V), token by token."""
    labels = []
    for frame in logits.tolist():
        allowed = {v: score - bias * (v == BLANK) for v, score in enumerate(frame) if v not in (0, 3, 4)}
        labels.append(max(allowed, key=lambda v: (allowed[v], -v)))
    return tuple(token for token, _ in groupby(labels) if token != BLANK)


@pytest.mark.parametrize("bias", [-40.0, -1.0, 0.0, 0.3, 1.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_agrees_with_a_search_by_hand(ctc_model: Callable[..., Any], bias: float, dtype: torch.dtype) -> None:
    logits = torch.randn(30, 8, 9).to(dtype).double().to(dtype)
    logits[:, :, BLANK] += 1
    mask = torch.arange(8) < torch.randint(1, 9, (30, 1))
    output = ctc_best_path_decode(ctc_model(logits, mask), batch_of(30), blank_bias=bias)
    expected = [by_hand(row[:n].double(), bias) for row, n in zip(logits, mask.sum(1).tolist(), strict=True)]
    assert outputs(output) == expected
    if bias == 40:
        written = [len(list(groupby(row))) for row in expected]
        assert output.num_tokens.tolist() == written, "without blanks nothing is dropped but repeats"
    if bias == -40:
        assert not output.num_tokens.any()


def test_it_steers_the_choice_and_not_the_score(ctc_model: Callable[..., Any]) -> None:
    # "a" and "b" share 0.6; the blank is the most probable label, and yet the frame should speak.
    logits = torch.full((1, 1, 9), -torch.inf, dtype=torch.float64)
    logits[0, 0, [BLANK, 5, 6]] = torch.tensor([0.4, 0.32, 0.28], dtype=torch.float64).log()
    assert outputs(ctc_best_path_decode(ctc_model(logits), batch_of(1))) == [()]
    biased = ctc_best_path_decode(ctc_model(logits), batch_of(1), blank_bias=math.log(0.4 / 0.32) + 1e-9)
    assert outputs(biased) == [(5,)]
    assert biased.log_prob.exp().item() == pytest.approx(0.32)


def test_outputs_grow_with_the_bias_unless_equal_neighbours_merge(ctc_model: Callable[..., Any]) -> None:
    logits = torch.randn(50, 9, 12, dtype=torch.float64)
    logits[:, :, BLANK] += 2
    lengths = [
        ctc_best_path_decode(ctc_model(logits), batch_of(50), blank_bias=bias).num_tokens
        for bias in (0.0, 0.5, 1.0, 2.0, 4.0)
    ]
    totals = [int(each.sum()) for each in lengths]
    assert totals == sorted(totals)
    # The exception: the blank between two equal tokens goes, and they merge.
    merged = torch.zeros(1, 3, 9, dtype=torch.float64)
    merged[0, :, 5] = 3
    merged[0, 1, BLANK] = 4
    before, after = (ctc_best_path_decode(ctc_model(merged), batch_of(1), blank_bias=bias) for bias in (0.0, 2.0))
    assert (outputs(before), outputs(after)) == ([(5, 5)], [(5,)])


@pytest.mark.parametrize("bias", [math.nan, math.inf])
def test_a_bias_that_is_no_number(ctc_model: Callable[..., Any], bias: float) -> None:
    with pytest.raises(ValueError, match=r"`blank_bias` must be finite; got (nan|inf)"):
        ctc_best_path_decode(ctc_model(torch.zeros(1, 2, 9)), batch_of(1), blank_bias=bias)


def test_a_remembering_model_runs_once_a_batch_and_decodes_the_same() -> None:
    torch.manual_seed(0)
    model = Ctc(CtcConfig(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, dropout=0.5)).train()
    passes: list[int] = []
    model.decoder.register_forward_hook(lambda *ignored: passes.append(1))
    remembering = RememberedPass(model)
    for ids in (torch.tensor([[5, 6, 7, 0]]), torch.tensor([[9, 8, 6, 0]])):
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for bias in (0.0, 1.0):
            passes.clear()
            expected = ctc_best_path_decode(model, batch, blank_bias=bias)
            assert len(passes) == 1
            found = ctc_best_path_decode(remembering, batch, blank_bias=bias)
            assert len(passes) == (2 if bias == 0 else 1)
            assert outputs(found) == outputs(expected)
            assert torch.equal(found.log_prob, expected.log_prob)
    assert model.training
