"""Bonus, length normalisation and language model in the prefix beam, against enumeration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import groupby, product
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpseq.decoding import DecodeOutput, NgramModel, ctc_prefix_beam_search_decode, train_kneser_ney

NO_SPECIALS = {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": None, "mask_token_id": None, "blank_token_id": 0}


def batch_of(size: int) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(size, 1, dtype=torch.long), "attention_mask": torch.ones(size, 1)}


def outputs(output: DecodeOutput) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(output.sequences, output.num_tokens, strict=True)]


def all_outputs(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """log p of every output, by enumeration of all alignments of frames (F, V)."""
    probs = log_probs.exp().tolist()
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for alignment in product(range(log_probs.shape[1]), repeat=len(probs)):
        sums[tuple(token for token, _ in groupby(alignment) if token)] += math.prod(
            probs[f][v] for f, v in enumerate(alignment)
        )
    return {output: math.log(p) for output, p in sums.items()}


@pytest.fixture(scope="module")
def model_of_language() -> NgramModel:
    texts = [[1, 2], [1, 2, 1], [2, 2, 1], [1], [2, 1, 2, 1], [1, 1]] * 3
    return train_kneser_ney(texts, vocab_size=3, eos_token_id=0, order=3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("weight", "bonus", "power"), [(0.0, 1.3, 0.0), (0.7, 0.0, 0.0), (2.0, 0.9, 1.0), (0, 0, 0.6)])
def test_a_full_beam_finds_the_best_score(
    ctc_model: Callable[..., Any], model_of_language: NgramModel, weight: float, bonus: float, power: float, seed: int
) -> None:
    logits = 1.5 * torch.randn(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(4) < torch.tensor([4, 3, 4, 1])[:, None]
    output = ctc_prefix_beam_search_decode(
        ctc_model(logits, mask, **NO_SPECIALS),
        batch_of(4),
        beam_size=31,
        top_k=2,
        token_bonus=bonus,
        lm_weight=weight,
        length_normalization=power,
        language_model=model_of_language,
    )
    for row, num_frames in enumerate(mask.sum(1).tolist()):
        truth = all_outputs(logits[row, :num_frames].log_softmax(-1))

        def score(y: tuple[int, ...], truth: dict[tuple[int, ...], float] = truth) -> float:
            ids = torch.tensor([y], dtype=torch.long).view(1, -1)
            language = float(model_of_language.log_prob(ids, torch.tensor([len(y)])))
            return (truth[y] + weight * language + bonus * len(y)) / max(len(y), 1) ** power

        ranked = sorted(truth, key=score, reverse=True)
        assert outputs(output)[row] == ranked[0]
        assert output.log_prob[row].item() == pytest.approx(truth[ranked[0]])
        lengths, scores = output.trace["candidate_lengths"][row], output.trace["candidate_scores"][row]
        found = [tuple(y[:n].tolist()) for y, n in zip(output.trace["candidates"][row], lengths, strict=True)]
        alive = int((scores > -torch.inf).sum())
        assert found[:alive] == ranked
        assert scores[:alive].tolist() == pytest.approx([truth[y] for y in ranked])


def test_a_narrow_beam_does_not_depend_on_which_tokens_were_worth_a_question(
    ctc_model: Callable[..., Any], model_of_language: NgramModel
) -> None:
    """The same search with a language model that is asked about everything: it also likes what cannot enter."""

    class Everything(NgramModel):
        asked = 0

        def score(self, states: Tensor, tokens: Tensor) -> Tensor:
            type(self).asked += tokens.numel()
            return super().score(states, tokens)

    asked = Everything(model_of_language.orders, 0)
    logits = 3 * torch.randn(20, 9, 3, dtype=torch.float64)
    options = {"beam_size": 3, "top_k": 2, "lm_weight": 0.5, "token_bonus": 0.4}
    model = ctc_model(logits, **NO_SPECIALS)
    output = ctc_prefix_beam_search_decode(model, batch_of(20), language_model=asked, **options)
    assert 0 < Everything.asked < 20 * 9 * 3 * 2
    for row in range(20):
        assert outputs(output)[row] == textbook(logits[row].log_softmax(-1), model_of_language, **options)


def textbook(
    log_probs: Tensor, language: NgramModel, *, beam_size: int, top_k: int, lm_weight: float, token_bonus: float
) -> tuple[int, ...]:
    """Hannun et al. 2014, algorithm 1, with dictionaries; top_k is all tokens."""

    def extra(y: tuple[int, ...]) -> float:
        ids = torch.tensor([y], dtype=torch.long).view(1, -1)
        states, total = language.start(1), 0.0
        for token in y:
            total += float(language.score(states, torch.tensor([[token]])))
            states = language.advance(states, torch.tensor([token]))
        assert ids.shape[1] == len(y)
        return lm_weight * total + token_bonus * len(y)

    beam = {(): (1.0, 0.0)}
    for frame in log_probs.exp().tolist():
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_token) in beam.items():
            grown[prefix][0] += (in_blank + in_token) * frame[0]
            if prefix:
                grown[prefix][1] += in_token * frame[prefix[-1]]
            for v in range(1, top_k + 1):
                is_repeat = bool(prefix) and prefix[-1] == v
                grown[(*prefix, v)][1] += (in_blank if is_repeat else in_blank + in_token) * frame[v]
        ranked = sorted(grown, key=lambda y: -(math.log(sum(grown[y]) or 1e-300) + extra(y)))[:beam_size]
        beam = {y: (grown[y][0], grown[y][1]) for y in ranked}

    def final(y: tuple[int, ...]) -> float:
        ids = torch.tensor([y], dtype=torch.long).view(1, -1)
        whole = lm_weight * float(language.log_prob(ids, torch.tensor([len(y)]))) + token_bonus * len(y)
        return math.log(sum(beam[y]) or 1e-300) + whole

    return max(beam, key=final)


def test_a_heavy_language_model_writes_its_only_sentence(ctc_model: Callable[..., Any]) -> None:
    language = train_kneser_ney([[5, 7, 6]] * 50, vocab_size=9, eos_token_id=0, order=4)
    output = ctc_prefix_beam_search_decode(
        ctc_model(torch.randn(3, 6, 9)), batch_of(3), beam_size=50, lm_weight=100.0, language_model=language
    )
    assert outputs(output) == [(5, 7, 6)] * 3


def test_a_bonus_makes_outputs_longer(ctc_model: Callable[..., Any]) -> None:
    model = ctc_model(torch.randn(40, 9, 9))
    lengths = [
        int(ctc_prefix_beam_search_decode(model, batch_of(40), token_bonus=bonus).num_tokens.sum())
        for bonus in (-2.0, 0.0, 1.0, 3.0)
    ]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_bonus": math.nan}, "`token_bonus` must be finite; got nan"),
        ({"length_normalization": -1.0}, "`length_normalization` must be at least 0; got -1.0"),
        ({"lm_weight": 0.5}, "`lm_weight` is 0.5, and there is no language model; give one, or set it to 0"),
        ({"lm_weight": -0.5}, "`lm_weight` must be at least 0; got -0.5"),
    ],
)
def test_mistakes(ctc_model: Callable[..., Any], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ctc_prefix_beam_search_decode(ctc_model(torch.zeros(1, 2, 9)), batch_of(1), **options)


def test_a_language_model_of_other_tokens(ctc_model: Callable[..., Any], model_of_language: NgramModel) -> None:
    with pytest.raises(ValueError, match="`language_model` has 3 tokens, and the model that writes 9; give one that"):
        ctc_prefix_beam_search_decode(
            ctc_model(torch.zeros(1, 2, 9)), batch_of(1), lm_weight=0.1, language_model=model_of_language
        )
