"""The unigram trainer against enumeration of all segmentations."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from sharpseq.data.unigram import _Lattice, _log_probs, train_unigram

PIECES = ["a", "ab", "aba", "b", "ba", "c", "ca"]
NUMBERS = {piece: number for number, piece in enumerate(PIECES)}
WORDS = ["a", "abac", "babcaba", "ccc"]


def segmentations(word: str) -> Iterator[list[str]]:
    if not word:
        yield []
    for end in range(1, len(word) + 1):
        if word[:end] in NUMBERS:
            yield from ([word[:end], *rest] for rest in segmentations(word[end:]))


def random_scores() -> np.ndarray:
    return np.log(np.random.default_rng(0).dirichlet(np.ones(len(PIECES))))


def test_expected_counts_equal_enumeration() -> None:
    scores, weights = random_scores(), np.array([3.0, 1.0, 2.0, 5.0])
    expected = np.zeros(len(PIECES))
    for word, weight in zip(WORDS, weights, strict=True):
        paths = list(segmentations(word))
        probs = [math.exp(sum(scores[NUMBERS[piece]] for piece in path)) for path in paths]
        for path, prob in zip(paths, probs, strict=True):
            for piece in path:
                expected[NUMBERS[piece]] += weight * prob / sum(probs)
    counts = _Lattice.of(WORDS, NUMBERS).expected_counts(scores, weights)
    np.testing.assert_allclose(counts, expected, rtol=1e-12)


@pytest.mark.parametrize("whole", [True, False])
def test_best_scores_equal_enumeration(whole: bool) -> None:
    scores, words = random_scores(), [*WORDS, "aba", "ba"]
    expected = [
        max(
            (sum(scores[NUMBERS[piece]] for piece in path) for path in segmentations(word) if whole or path != [word]),
            default=-math.inf,
        )
        for word in words
    ]
    np.testing.assert_allclose(_Lattice.of(words, NUMBERS, whole=whole).best_scores(scores), expected, rtol=1e-12)


def test_restricted_lattice_equals_one_built_without_the_pieces() -> None:
    scores, weights = random_scores(), np.ones(len(WORDS))
    kept = np.array([piece not in ("ab", "ca") for piece in PIECES])
    rest = {piece: number for piece, number in NUMBERS.items() if kept[number]}
    restricted = _Lattice.of(WORDS, NUMBERS).restricted(kept).expected_counts(scores, weights)
    np.testing.assert_allclose(restricted, _Lattice.of(WORDS, rest).expected_counts(scores, weights), rtol=1e-12)


def test_expectation_maximisation_raises_the_likelihood() -> None:
    lattice, weights = _Lattice.of(WORDS, NUMBERS), np.array([30.0, 10.0, 20.0, 50.0])
    kept, scores = np.ones(len(PIECES), dtype=bool), random_scores()
    likelihoods = []
    for _ in range(6):
        log_probs = lattice.forward.node_scores(scores, origins=lattice.first, num_nodes=int(lattice.last[-1]) + 1)
        likelihoods.append(float((weights * log_probs[lattice.last]).sum()))
        scores = _log_probs(lattice.expected_counts(scores, weights), kept)
    assert np.all(np.diff(likelihoods[:3]) > 0)
    assert np.exp(scores).sum() == pytest.approx(1.0)


def test_long_words_do_not_underflow() -> None:
    # A text without spaces is one word, whose probability is far below the smallest float.
    model = train_unigram(["▁" + "ab" * 600], vocab_size=8, special_tokens=["<unk>"], unknown_token="<unk>")
    assert model.tokenize("▁abab")[0].value == "▁"


def test_frequent_words_become_pieces() -> None:
    words = ["▁walking", "▁talking", "▁walked", "▁talked", "▁jumping", "▁jumped"] * 10
    model = train_unigram(words, vocab_size=40, special_tokens=["<unk>"], unknown_token="<unk>")
    assert [token.value for token in model.tokenize("▁walking")] == ["▁walking"]


def test_alphabet_is_always_kept() -> None:
    model = train_unigram(["▁aaaa", "▁bbbb", "▁z"], vocab_size=2, special_tokens=["<unk>"], unknown_token="<unk>")
    assert {token.value for token in model.tokenize("▁abz")} == {"▁", "a", "b", "z"}
