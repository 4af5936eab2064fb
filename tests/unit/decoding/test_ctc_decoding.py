"""Best path and prefix beam search, against each other and against exhaustive and textbook searches."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import groupby, product
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DecodeOutput, ctc_best_path_decode, ctc_prefix_beam_search_decode
from sharpseq.scoring import score_ctc

NO_SPECIALS = {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": None, "mask_token_id": None, "blank_token_id": 0}


def batch_of(size: int) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(size, 1, dtype=torch.long), "attention_mask": torch.ones(size, 1)}


def outputs(output: DecodeOutput) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def all_outputs(log_probs: Tensor, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Probability of every output, by enumeration of all alignments of frames (F, V)."""
    probs = log_probs.exp().tolist()
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for alignment in product(range(log_probs.shape[1]), repeat=len(probs)):
        output = tuple(token for token, _ in groupby(alignment) if token != blank)
        sums[output] += math.prod(probs[f][v] for f, v in enumerate(alignment))
    return dict(sums)


def textbook_beam(log_probs: Tensor, *, beam_size: int, top_k: int, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Hannun et al. 2014, algorithm 1, without a language model, with dictionaries and probabilities."""
    beam = {(): (1.0, 0.0)}
    for frame in log_probs.exp().tolist():
        best = sorted((v for v in range(len(frame)) if v != blank), key=lambda v: -frame[v])[:top_k]
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_token) in beam.items():
            grown[prefix][0] += (in_blank + in_token) * frame[blank]
            if prefix:
                grown[prefix][1] += in_token * frame[prefix[-1]]
            for v in best:
                is_repeat = bool(prefix) and prefix[-1] == v
                grown[(*prefix, v)][1] += (in_blank if is_repeat else in_blank + in_token) * frame[v]
            # A prefix reached from its parent counts even if its last token is not among the best of the frame.
            for other in beam:
                if other and other[:-1] == prefix and other[-1] not in best:
                    v = other[-1]
                    is_repeat = bool(prefix) and prefix[-1] == v
                    grown[other][1] += (in_blank if is_repeat else in_blank + in_token) * frame[v]
        possible = [item for item in grown.items() if sum(item[1]) > 0]
        kept = sorted(possible, key=lambda item: -sum(item[1]))[:beam_size]
        beam = {prefix: (in_blank, in_token) for prefix, (in_blank, in_token) in kept}
    return {prefix: sum(parts) for prefix, parts in beam.items()}


@pytest.mark.parametrize("seed", range(8))
def test_a_full_beam_is_exhaustive(ctc_model: Callable[..., Any], seed: int) -> None:
    logits = 2 * torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    # 1 + 2 + 4 + 8 + 16 prefixes fit into the beam.
    output = ctc_prefix_beam_search_decode(ctc_model(logits, **NO_SPECIALS), batch_of(5), beam_size=31, top_k=2)
    for row in range(5):
        truth = all_outputs(logits[row].log_softmax(-1))
        best = max(truth, key=truth.__getitem__)
        assert outputs(output)[row] == best
        assert output.log_prob[row].exp().item() == pytest.approx(truth[best])
        scores = output.trace["candidate_scores"][row]
        found = {
            tuple(candidate[candidate != 0].tolist()): score.exp().item()
            for candidate, score in zip(output.trace["candidates"][row], scores, strict=True)
            if score > -torch.inf
        }
        assert len(found) == int((scores > -torch.inf).sum()), "no prefix may stand in the beam twice"
        assert found == pytest.approx(truth)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("beam_size", "top_k"), [(1, 5), (3, 5), (4, 2), (6, 1), (40, 3)])
def test_a_narrow_beam_agrees_with_the_textbook(
    ctc_model: Callable[..., Any], beam_size: int, top_k: int, seed: int
) -> None:
    logits = 1.5 * torch.randn(3, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(9) < torch.tensor([9, 4, 7])[:, None]
    model = ctc_model(logits, mask, **NO_SPECIALS)
    output = ctc_prefix_beam_search_decode(model, batch_of(3), beam_size=beam_size, top_k=top_k)
    for row, num_frames in enumerate((9, 4, 7)):
        expected = textbook_beam(logits[row, :num_frames].log_softmax(-1), beam_size=beam_size, top_k=top_k)
        scores = output.trace["candidate_scores"][row]
        found = {
            tuple(candidate[candidate != 0].tolist()): score.exp().item()
            for candidate, score in zip(output.trace["candidates"][row], scores, strict=True)
            if score > -torch.inf
        }
        assert found == pytest.approx(expected)
        assert outputs(output)[row] == max(expected, key=expected.__getitem__)


def test_the_best_path_is_not_always_the_best_output(ctc_model: Callable[..., Any]) -> None:
    # Graves et al. 2006, figure 2: blank is best in both frames (0.36), but "a" has three alignments (0.64).
    logits = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]], dtype=torch.float64).log()
    model = ctc_model(logits, **NO_SPECIALS)
    path, prefix = (decode(model, batch_of(1)) for decode in (ctc_best_path_decode, ctc_prefix_beam_search_decode))
    assert outputs(path) == [()]
    assert path.sequences.shape == (1, 0)
    assert path.log_prob.exp().item() == pytest.approx(0.36)
    assert outputs(prefix) == [(1,)]
    assert prefix.log_prob.exp().item() == pytest.approx(0.64)


def test_on_peaked_distributions_both_find_the_alignment(ctc_model: Callable[..., Any]) -> None:
    alignments = torch.randint(5, 9, (20, 15)).masked_fill(torch.rand(20, 15) < 0.4, 1)
    logits = torch.zeros(20, 15, 9).scatter_(2, alignments[:, :, None], 30.0)
    expected = [tuple(token for token, _ in groupby(row) if token != 1) for row in alignments.tolist()]
    for decode in (ctc_best_path_decode, ctc_prefix_beam_search_decode):
        output = decode(ctc_model(logits), batch_of(20))
        assert outputs(output) == expected
        torch.testing.assert_close(output.log_prob, torch.zeros(20), atol=1e-6, rtol=0)


def test_a_wide_beam_is_at_least_as_good_as_the_best_path(ctc_model: Callable[..., Any]) -> None:
    model = ctc_model(2 * torch.randn(10, 6, 9, dtype=torch.float64))
    path = ctc_best_path_decode(model, batch_of(10))
    prefix = ctc_prefix_beam_search_decode(model, batch_of(10), beam_size=300)
    assert (prefix.log_prob >= path.log_prob - 1e-9).all()
    assert (prefix.log_prob > path.log_prob + 1e-3).any()


@pytest.mark.parametrize("decode", [ctc_best_path_decode, ctc_prefix_beam_search_decode])
@pytest.mark.parametrize("blank", [1, 8])
def test_specials_are_not_written_but_keep_their_probability(
    ctc_model: Callable[..., Any], decode: Callable[..., DecodeOutput], blank: int
) -> None:
    logits = torch.randn(6, 7, 9, dtype=torch.float64)
    logits[:, :, [0, 3, 4]] += 4
    output = decode(ctc_model(logits, blank_token_id=blank), batch_of(6))
    assert {token for row in outputs(output) for token in row} <= {2, 5, 6, 7, 8} - {blank}
    behind = torch.arange(output.sequences.shape[1]) >= output.num_tokens[:, None]
    assert (output.sequences[behind] == 1).all()
    labels = output.sequences.masked_fill(behind, -100)
    expected = score_ctc(logits, torch.ones(6, 7, dtype=torch.bool), labels, blank=blank)
    torch.testing.assert_close(output.log_prob, expected.log_prob)


@pytest.mark.parametrize("decode", [ctc_best_path_decode, ctc_prefix_beam_search_decode])
def test_empty_outputs_beside_others(ctc_model: Callable[..., Any], decode: Callable[..., DecodeOutput]) -> None:
    logits = torch.zeros(2, 4, 9, dtype=torch.float64)
    logits[0, :, 1] = 5
    logits[1, :, 6] = 5
    output = decode(ctc_model(logits), batch_of(2))
    assert outputs(output) == [(), (6,)]
    assert output.num_tokens.tolist() == [0, 1]
    assert output.log_prob[0].item() == pytest.approx(logits[0].log_softmax(-1)[:, 1].sum().item())


def test_empty_places_of_a_beam_are_empty(ctc_model: Callable[..., Any]) -> None:
    # Three frames of one symbol allow "", "a" and "aa"; five more places stay empty.
    logits = torch.tensor([0.4, 0.6]).log().expand(1, 3, 2)
    output = ctc_prefix_beam_search_decode(ctc_model(logits, **NO_SPECIALS), batch_of(1), beam_size=8)
    candidates, scores = output.trace["candidates"][0], output.trace["candidate_scores"][0]
    assert candidates[:3].tolist() == [[1, 0], [1, 1], [0, 0]]
    torch.testing.assert_close(scores[:3].exp(), torch.tensor([0.792, 0.144, 0.064]))
    assert (candidates[3:] == 0).all()
    assert (scores[3:] == -torch.inf).all()


@pytest.mark.parametrize("option", ["beam_size", "top_k"])
def test_options_out_of_range(ctc_model: Callable[..., Any], option: str) -> None:
    with pytest.raises(ValueError, match=rf"`{option}` must be at least 1; got 0"):
        ctc_prefix_beam_search_decode(ctc_model(torch.zeros(1, 2, 9)), batch_of(1), **{option: 0})
