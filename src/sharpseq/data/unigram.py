"""Train a unigram language model over subword pieces, the same way every time.

The trainer of the ``tokenizers`` library walks its words in the order of a randomly seeded hash table, so that two
trainings on the same texts differ; this one sorts them. Its steps are Kudo's: start from the substrings that occur
often, then in rounds fit their probabilities by expectation-maximisation and drop those that matter least.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import models

_LONGEST_PIECE = 16
_SEEDS_PER_PIECE = 10
_EM_STEPS = 2
_KEPT_EACH_ROUND = 0.75
_LEAST_COUNT = 0.5

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


def train_unigram(
    words: Iterable[str], *, vocab_size: int, special_tokens: Sequence[str], unknown_token: str
) -> models.Unigram:
    r"""Choose pieces and their log-probabilities that make the words likely.

    The probability of a word is the sum over its segmentations, :math:`p(w) = \sum_{s \in S(w)} \prod_{x \in s} p(x)`,
    and the pieces maximise :math:`\sum_w n_w \log p(w)`, where :math:`n_w` counts the word.

    The cost of losing a piece is its expected count times the log-ratio of its probability and that of its best other
    segmentation: SentencePiece counts it in the best segmentations of the words instead, and smooths the counts by a
    digamma function, which is left out here. Time and memory grow with the number of different words.

    Args:
        words: Every word of the texts, as often as it occurs; no piece reaches over the end of a word.
        vocab_size: Number of pieces wanted, ``special_tokens`` included. All characters are pieces, even beyond it.
        special_tokens: First pieces of the vocabulary, never used for a word.
        unknown_token: The one of them that stands for a character without a piece.

    Returns:
        The model: special tokens first, then the pieces from likely to unlikely.

    Raises:
        ValueError: If there is no word.

    Example:
        >>> words = ["▁low", "▁lower", "▁lowest"]
        >>> model = train_unigram(words, vocab_size=10, special_tokens=["<unk>"], unknown_token="<unk>")
        >>> [token.value for token in model.tokenize("▁lowest")]
        ['▁lowe', 's', 't']

    References:
        Kudo 2018, "Subword regularization: improving neural network translation models with multiple subword
        candidates", section 3.2.
    """
    counts = Counter(words)
    if not counts:
        raise ValueError("`texts` must hold at least one character")
    different = sorted(counts)
    weights = np.array([counts[word] for word in different], dtype=np.float64)
    wanted = vocab_size - len(special_tokens)
    seeds = _seeds(different, counts, limit=_SEEDS_PER_PIECE * max(wanted, 0))
    pieces = sorted(seeds)
    chosen, scores = _choose(different, weights, pieces, np.array([seeds[piece] for piece in pieces]), wanted=wanted)
    # Rounded, because exp and log may differ in the last bit between processors.
    ranked = sorted((-round(float(score), 6), pieces[number]) for number, score in zip(chosen, scores, strict=True))
    vocabulary = [(token, 0.0) for token in special_tokens] + [(piece, -cost) for cost, piece in ranked]
    return models.Unigram(vocabulary, list(special_tokens).index(unknown_token), False)


def _seeds(words: Sequence[str], counts: Counter[str], *, limit: int) -> dict[str, float]:
    """Return all characters, and the substrings that occur at least twice, with weights of count times length."""
    seeds: Counter[str] = Counter()
    for word in words:
        for character in word:
            seeds[character] += counts[word]
    frequent = set(seeds)
    longer: dict[str, int] = {}
    for length in range(2, _LONGEST_PIECE + 1):
        found: Counter[str] = Counter()
        for word in words:
            for start in range(len(word) - length + 1):
                # A substring cannot be frequent unless what it starts with is: this bounds the memory.
                if word[start : start + length - 1] in frequent:
                    found[word[start : start + length]] += counts[word]
        frequent = {piece for piece, count in found.items() if count > 1}
        longer.update((piece, length * found[piece]) for piece in frequent)
    best = sorted(longer, key=lambda piece: (-longer[piece], piece))[:limit]
    return {piece: float(count) for piece, count in seeds.items()} | {piece: float(longer[piece]) for piece in best}


def _choose(
    words: Sequence[str], weights: _Floats, pieces: Sequence[str], counts: _Floats, *, wanted: int
) -> tuple[_Ints, _Floats]:
    """Return the numbers of the pieces kept and their log-probabilities."""
    lengths = np.array([len(piece) for piece in pieces])
    numbers = {piece: number for number, piece in enumerate(pieces)}
    corpus = _Lattice.of(words, numbers)
    # The other segmentations of a piece: its own lattice without the edge that is the piece itself.
    others = _Lattice.of(pieces, numbers, whole=False)
    kept = np.ones(len(pieces), dtype=np.bool_)
    scores = _log_probs(counts, kept)
    while True:
        for _ in range(_EM_STEPS):
            counts = corpus.expected_counts(scores, weights)
            scores = _log_probs(counts, kept)
        num_kept = int(kept.sum())
        surplus = np.flatnonzero(kept & (lengths > 1))
        target = max(wanted, min(int(_KEPT_EACH_ROUND * num_kept), int((kept & (counts >= _LEAST_COUNT)).sum())))
        excess = min(len(surplus), num_kept - target)
        if excess <= 0:
            return np.flatnonzero(kept), scores[kept]
        losses = counts[surplus] * (scores[surplus] - others.best_scores(scores)[surplus])
        # Rounded for the same reason as the scores; the stable sort leaves equal losses in the order of the pieces.
        least_needed = surplus[np.argsort(np.round(losses, 6), kind="stable")[:excess]]
        kept[least_needed] = False
        corpus, others = corpus.restricted(kept), others.restricted(kept, words=kept)


def _log_probs(counts: _Floats, kept: _Mask) -> _Floats:
    # The floor keeps every character possible, also one that so far only occurs inside longer pieces.
    counts = np.where(kept, np.maximum(counts, _LEAST_COUNT), 1.0)
    return np.where(kept, np.log(counts) - np.log(counts[kept].sum()), -np.inf)


@dataclass(frozen=True)
class _Sweep:
    """Edges in an order in which every edge into a node comes before the edges out of it."""

    leaves: _Ints
    enters: _Ints
    piece: _Ints
    depth: _Ints

    def take(self, edges: _Mask | _Ints) -> _Sweep:
        """Return the sweep over some of the edges, in the order given."""
        return _Sweep(self.leaves[edges], self.enters[edges], self.piece[edges], self.depth[edges])

    def node_scores(self, scores: _Floats, *, origins: _Ints, num_nodes: int, best: bool = False) -> _Floats:
        """Return, for each node, the log-sum of all paths to it, or their maximum, in nats."""
        values = np.full(num_nodes, -np.inf)
        values[origins] = 0.0
        bounds = [0, *(np.flatnonzero(np.diff(self.depth)) + 1).tolist(), len(self.depth)]
        for low, high in pairwise(bounds):
            paths = values[self.leaves[low:high]] + scores[self.piece[low:high]]
            nodes = self.enters[low:high]
            firsts = np.concatenate([[0], np.flatnonzero(np.diff(nodes)) + 1])
            summed = np.maximum.reduceat(paths, firsts)
            if not best:
                shares = np.exp(paths - np.repeat(summed, np.diff([*firsts, len(nodes)])))
                summed = summed + np.log(np.add.reduceat(shares, firsts))
            values[nodes[firsts]] = summed
        return values


@dataclass(frozen=True)
class _Lattice:
    """All segmentations of some words: a node before each character and at the end, an edge for each piece."""

    forward: _Sweep
    backward: _Sweep
    first: _Ints
    last: _Ints

    @classmethod
    def of(cls, words: Sequence[str], numbers: dict[str, int], *, whole: bool = True) -> _Lattice:
        """Build the lattice of words from numbered pieces, with or without the pieces that are a whole word."""
        # Arrays, because lists of as many numbers take five times the memory.
        leaves, lengths, found = array("q"), array("q"), array("q")
        node = 0
        for word in words:
            for start in range(len(word)):
                for end in range(start + 1, min(len(word), start + _LONGEST_PIECE) + 1):
                    number = numbers.get(word[start:end])
                    if number is not None and (whole or end - start < len(word)):
                        leaves.append(node + start)
                        lengths.append(end - start)
                        found.append(number)
            node += len(word) + 1
        sizes = np.array([len(word) + 1 for word in words], dtype=np.int64)
        first = np.cumsum(sizes) - sizes
        position = np.arange(node) - np.repeat(first, sizes)
        rest = np.repeat(sizes, sizes) - 1 - position
        begins, piece = np.array(leaves, dtype=np.int64), np.array(found, dtype=np.int64)
        ends = begins + np.array(lengths, dtype=np.int64)
        onward, back = np.lexsort((ends, position[ends])), np.lexsort((begins, rest[begins]))
        forward = _Sweep(begins, ends, piece, position[ends]).take(onward)
        backward = _Sweep(ends, begins, piece, rest[begins]).take(back)
        return cls(forward, backward, first, first + sizes - 1)

    def restricted(self, kept: _Mask, *, words: _Mask | None = None) -> _Lattice:
        """Return the lattice without the edges of dropped pieces, and without those of dropped words."""
        forward, backward = (sweep.take(kept[sweep.piece]) for sweep in (self.forward, self.backward))
        if words is not None:
            node_kept = np.repeat(words, self.last - self.first + 1)
            forward, backward = (sweep.take(node_kept[sweep.leaves]) for sweep in (forward, backward))
        return _Lattice(forward, backward, self.first, self.last)

    def best_scores(self, scores: _Floats) -> _Floats:
        """Return the log-probability of each word's best segmentation, in nats."""
        num_nodes = int(self.last[-1]) + 1
        return self.forward.node_scores(scores, origins=self.first, num_nodes=num_nodes, best=True)[self.last]

    def expected_counts(self, scores: _Floats, weights: _Floats) -> _Floats:
        """Return how often each piece occurs in the segmentations of the words, weighted by their probability."""
        num_nodes = int(self.last[-1]) + 1
        before = self.forward.node_scores(scores, origins=self.first, num_nodes=num_nodes)
        after = self.backward.node_scores(scores, origins=self.last, num_nodes=num_nodes)
        sizes = self.last - self.first + 1
        # Divided by the probability of the word, every node's factor is known before the sums over edges.
        share = np.repeat(np.log(weights) - before[self.last], sizes)
        edges = self.forward
        log_counts = (before + share)[edges.leaves] + scores[edges.piece] + after[edges.enters]
        return np.bincount(edges.piece, weights=np.exp(log_counts), minlength=len(scores)).astype(np.float64)
