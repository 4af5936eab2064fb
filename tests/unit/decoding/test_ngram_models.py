"""Kneser-Ney smoothing against an independent implementation with dictionaries, and look-ups that agree with it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from sharpseq.decoding import LanguageModel, NgramModel, train_kneser_ney
from sharpseq.decoding.kneser_ney import FALLBACK_DISCOUNTS

EOS, V = 0, 6


def texts(seed: int, *, count: int = 60, longest: int = 7) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (count,), generator=generator).tolist()
    weights = torch.tensor([0.0, 0.1, 0.5, 0.2, 0.15, 0.05])
    return [torch.multinomial(weights, n, replacement=True, generator=generator).tolist() if n else [] for n in lengths]


def kneser_ney_by_hand(sequences: list[list[int]], order: int) -> Callable[[tuple[Any, ...], int], float]:
    """Chen and Goodman 1999, with dictionaries; returns p(w | h)."""
    raw = [Counter[tuple[Any, ...]]() for _ in range(order + 1)]
    for row in sequences:
        marked = ["<s>", *row, EOS]
        for n in range(1, order + 1):
            raw[n].update(tuple(marked[i : i + n]) for i in range(len(marked) - n + 1))
    adjusted: list[dict[tuple[Any, ...], int]] = [{} for _ in range(order + 1)]
    for n in range(1, order + 1):
        before = defaultdict(set)
        if n < order:
            for gram in raw[n + 1]:
                before[gram[1:]].add(gram[0])
        for gram, count in raw[n].items():
            if gram != ("<s>",):
                adjusted[n][gram] = count if n == order or gram[0] == "<s>" else len(before[gram])
    discounts = []
    for n in range(1, order + 1):
        t = Counter(adjusted[n].values())
        found: tuple[float, ...] = ()
        if t[1] and t[2] and t[3]:
            y = t[1] / (t[1] + 2 * t[2])
            found = (1 - 2 * y * t[2] / t[1], 2 - 3 * y * t[3] / t[2], 3 - 4 * y * t[4] / t[3])
        ok = bool(found) and all(0 < d < c for c, d in enumerate(found, start=1))
        discounts.append(found if ok else FALLBACK_DISCOUNTS)

    def p(history: tuple[Any, ...], word: int) -> float:
        n = len(history) + 1
        if n == 0:
            return 1 / V
        followers = {gram[-1]: count for gram, count in adjusted[n].items() if gram[:-1] == history}
        lower = p(history[1:], word) if history else 1 / V
        if not followers:
            return lower
        total = sum(followers.values())
        take = lambda count: discounts[n - 1][min(count, 3) - 1]  # noqa: E731
        own = followers[word] - take(followers[word]) if word in followers else 0.0
        return own / total + sum(take(count) for count in followers.values()) / total * lower

    return p


def states_after(model: NgramModel, prefix: list[int]) -> torch.Tensor:
    states = model.start(1)
    for token in prefix:
        states = model.advance(states, torch.tensor([token]))
    return states


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_those_of_the_formula_and_sum_to_one(order: int, seed: int) -> None:
    sequences = texts(seed)
    model = train_kneser_ney(sequences, vocab_size=V, eos_token_id=EOS, order=order)
    p = kneser_ney_by_hand(sequences, order)
    assert isinstance(model, LanguageModel)
    for prefix in [[], *map(list, product(range(V), repeat=1)), *map(list, product(range(1, V), repeat=3))]:
        history = tuple(["<s>", *prefix][-(order - 1) :])
        found = model.score(states_after(model, prefix), torch.arange(V)[None]).exp()[0].tolist()
        assert found == pytest.approx([p(history, word) for word in range(V)], rel=1e-5), prefix
        assert sum(found) == pytest.approx(1, abs=1e-5)


def test_a_bigram_model_worked_out_on_paper() -> None:
    # Texts "a b" and "a": bigrams <s>a 2, ab 1, a</s> 1, b</s> 1; continuations a 1, b 1, </s> 2 (after a and after b).
    # There are too few counts to estimate discounts: 1/2 for a count of 1, and 1 for a count of 2, in both orders.
    a, b = 2, 3
    model = train_kneser_ney([[a, b], [a]], vocab_size=4, eos_token_id=EOS, order=2)
    left = (0.5 + 0.5 + 1) / 4
    unigram = {a: 0.5 / 4 + left / 4, b: 0.5 / 4 + left / 4, EOS: 1 / 4 + left / 4, 1: left / 4}
    start = model.score(model.start(1), torch.arange(4)[None]).exp()[0].tolist()
    assert start == pytest.approx([(2 - 1) / 2 * (w == a) + 1 / 2 * unigram[w] for w in range(4)])
    after_a = model.score(states_after(model, [a]), torch.arange(4)[None]).exp()[0].tolist()
    assert after_a == pytest.approx([0.5 / 2 * (w in (b, EOS)) + 0.5 * unigram[w] for w in range(4)])
    whole = model.log_prob(torch.tensor([[a, b], [a, 1]]), torch.tensor([2, 1])).exp().tolist()
    after_b = 0.5 + 0.5 * unigram[EOS]
    assert whole == pytest.approx([start[a] * after_a[b] * after_b, start[a] * after_a[EOS]])


def test_rows_are_scored_together_as_alone() -> None:
    model = train_kneser_ney(texts(3), vocab_size=V, eos_token_id=EOS, order=4)
    rows = texts(4, count=9)
    width = max(map(len, rows))
    padded = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    together = model.log_prob(padded, torch.tensor([len(row) for row in rows]))
    alone = [
        model.log_prob(torch.tensor([row], dtype=torch.long).view(1, -1), torch.tensor([len(row)])).item()
        for row in rows
    ]
    torch.testing.assert_close(together, torch.tensor(alone))


def test_texts_shorter_than_the_order_and_mistakes() -> None:
    model = train_kneser_ney([[2]], vocab_size=V, eos_token_id=EOS, order=5)
    assert model.order == 3
    assert model.score(states_after(model, [2, 3, 4]), torch.arange(V)[None]).exp().sum().item() == pytest.approx(1)
    for sequences, message in (([], "is empty"), ([[V]], "ids from 0 to 5"), ([[-1]], "ids from 0 to 5")):
        with pytest.raises(ValueError, match=message):
            train_kneser_ney(sequences, vocab_size=V, eos_token_id=EOS)
    with pytest.raises(ValueError, match="`order` must be at least 2; got 1"):
        train_kneser_ney([[2]], vocab_size=V, eos_token_id=EOS, order=1)


def test_more_of_the_history_predicts_better() -> None:
    chain = [[2, 3, 4, 2, 3, 5], [3, 3, 4, 4], [2, 3, 4, 4]] * 20
    scores = [
        float(
            train_kneser_ney(chain, vocab_size=V, eos_token_id=EOS, order=order).log_prob(
                torch.tensor([[2, 3, 4, 2, 3, 5]]), torch.tensor([6])
            )
        )
        for order in (2, 3, 4)
    ]
    assert scores == sorted(scores)
    assert math.exp(scores[-1]) > 0.2
