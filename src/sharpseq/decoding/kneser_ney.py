"""Training of an n-gram model: interpolated modified Kneser-Ney smoothing, in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sharpseq.decoding.ngram_model import NgramModel, NgramOrder

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""For an order with too few n-grams to estimate discounts from."""


def train_kneser_ney(
    sequences: Iterable[Sequence[int]], *, vocab_size: int, eos_token_id: int, order: int = 4
) -> NgramModel:
    r"""Estimate an n-gram model with interpolated modified Kneser-Ney smoothing.

    .. math:: p(w|h) = \frac{\max(a(hw) - D(a(hw)), 0)}{a(h\cdot)} + \gamma(h)\, p(w|h')

    a is the count of an n-gram of the highest order and of one that begins a text, and else the number of different
    tokens before it; D has three values for each order, for counts of 1, 2, and 3 or more; γ(h) is what the discounts
    of h add up to, over a(h·). Single tokens are interpolated with 1/V, so that every token has a probability.

    Args:
        sequences: Token ids of each text, without begin and end.
        vocab_size: Number of token ids V.
        eos_token_id: Id that stands for the end of a text; the begin has an id of its own, V.
        order: Length n of the longest n-grams, at least 2.

    Returns:
        The model. Probabilities after any history sum to 1 over the V ids.

    Raises:
        ValueError: If ``order`` is less than 2, there is no text, or an id is none of the vocabulary.

    Note:
        Where an order has too few n-grams with counts of 1 to 4, the estimate of its discounts is undefined or out of
        range, and `FALLBACK_DISCOUNTS` are taken. Counting is a sort for each order.

    Example:
        >>> model = train_kneser_ney([[2, 3], [2, 4]], vocab_size=5, eos_token_id=0, order=2)
        >>> model.score(model.start(1), torch.arange(5)[None]).exp().sum().item()
        1.0

    References:
        Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.3;
        Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation", section 3.
    """
    if order < 2:
        raise ValueError(f"`order` must be at least 2; got {order}")
    text = _Text.of(sequences, vocab_size=vocab_size, eos_token_id=eos_token_id)
    tables = _tables(text, order=order)
    orders: list[NgramOrder] = []
    lower: Numbers = np.full(vocab_size + 1, 1 / vocab_size)
    for length, table in enumerate(tables, start=1):
        discounts = _discounts(table.counts)
        taken = discounts[np.minimum(table.counts, 3)]
        num_histories = 1 if length == 1 else len(tables[length - 2].keys)
        totals = np.bincount(table.histories, table.counts, num_histories)
        # A history that nothing follows, such as one that ends with EOS, is never asked.
        left = np.divide(
            np.bincount(table.histories, taken, num_histories), totals, out=np.ones(num_histories), where=totals > 0
        )
        shares = np.divide(
            np.maximum(table.counts - taken, 0),
            totals[table.histories],
            out=np.zeros(len(table.counts)),
            where=totals[table.histories] > 0,
        )
        probs = shares + left[table.histories] * lower[table.suffixes]
        if length == 1:
            probs[vocab_size] = 1  # the begin mark, which is given and never written
        else:
            orders[-1] = orders[-1]._replace(backoffs=torch.from_numpy(np.log(left)).float())
        orders.append(
            NgramOrder(
                torch.from_numpy(table.keys),
                torch.from_numpy(np.log(probs)).float(),
                torch.zeros(len(probs)),
            )
        )
        lower = probs
    return NgramModel(tuple(orders), eos_token_id)


@dataclass(frozen=True)
class _Text:
    """All texts in one row, each between a begin mark and EOS.

    Args:
        tokens: Token ids, shape (P,).
        ends: Where the text of each token ends, shape (P,).
        vocab_size: Number of token ids; the next one is the begin mark.
    """

    tokens: Ids
    ends: Ids
    vocab_size: int

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], *, vocab_size: int, eos_token_id: int) -> _Text:
        rows = [np.array([vocab_size, *row, eos_token_id], dtype=np.int64) for row in sequences]
        if not rows:
            raise ValueError("`sequences` is empty; a language model needs at least one text")
        tokens, lengths = np.concatenate(rows), np.array([len(row) for row in rows], dtype=np.int64)
        written = tokens[tokens != vocab_size]
        if len(written) != len(tokens) - len(rows) or written.min() < 0 or written.max() >= vocab_size:
            raise ValueError(f"`sequences` must have ids from 0 to {vocab_size - 1}; got others")
        return cls(tokens, np.repeat(lengths.cumsum(), lengths), vocab_size)


@dataclass(frozen=True)
class _Table:
    """The n-grams of one order.

    Args:
        keys: As in `NgramOrder`.
        histories: Place of the n-gram without its last token, one order below.
        suffixes: Place of the n-gram without its first token, one order below.
        counts: What the estimate counts of it.
    """

    keys: Ids
    histories: Ids
    suffixes: Ids
    counts: Ids


def _tables(text: _Text, *, order: int) -> list[_Table]:
    """Return the n-grams of every order up to ``order``, in which longer ones say how often shorter ones count."""
    radix, everywhere = text.vocab_size + 1, np.arange(len(text.tokens))
    nothing = np.zeros(radix, dtype=np.int64)
    tables = [_Table(np.arange(radix), nothing, np.arange(radix), nothing)]
    begins = [np.arange(radix) == text.vocab_size]
    places = text.tokens
    for length in range(2, order + 1):
        starts = everywhere[everywhere + length <= text.ends]
        if not len(starts):
            break  # no text is as long
        keys, first, inverse = np.unique(
            places[starts] * radix + text.tokens[starts + length - 1], return_index=True, return_inverse=True
        )
        suffixes = places[starts[first] + 1]
        raw = np.bincount(inverse, minlength=len(keys)).astype(np.int64)
        # What is one shorter counts by the different tokens before it, unless it begins a text: nothing is before it.
        below = tables[-1]
        continued = np.bincount(suffixes, minlength=len(below.keys)).astype(np.int64)
        tables[-1] = _Table(below.keys, below.histories, below.suffixes, np.where(begins[-1], below.counts, continued))
        tables.append(_Table(keys, keys // radix, suffixes, raw))
        begins.append(begins[-1][keys // radix])
        places = np.full(len(text.tokens), -1)
        places[starts] = inverse
    return tables


def _discounts(counts: Ids) -> Numbers:
    """Return what is taken off counts of 0, 1, 2, and 3 or more."""
    ones, twos, threes, fours = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if ones and twos and threes:
        share = ones / (ones + 2 * twos)
        found = [1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes]
        if all(0 < discount < count for count, discount in enumerate(found, start=1)):
            return np.array([0, *found])
    return np.array([0, *FALLBACK_DISCOUNTS])
