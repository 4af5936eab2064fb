"""Sample minimum Bayes risk: of several samples, the one that resembles all of them most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import torch
from torch import Tensor

from sharpseq.declarations import Declaration, Setting
from sharpseq.decoding.best_of_n import best_of_n_decode
from sharpseq.decoding.decoder import Decoder, check_arguments
from sharpseq.decoding.output import DecodeOutput
from sharpseq.decoding.protocols import AutoregressiveModel, Batch, CtcModel, ParallelModel

Ids: TypeAlias = tuple[int, ...]
Utility: TypeAlias = Callable[[Sequence[Ids], Sequence[Ids]], Sequence[float]]
"""How good each hypothesis is if the reference beside it is right; token ids, higher is better."""


def sample_mbr_decode(
    model: Any,
    batch: Batch,
    *,
    n: Annotated[int, Setting("Samples of each source.", ge=1)] = 16,
    temperature: Annotated[float, Setting("Divides the logits while sampling.", gt=0)] = 1.0,
    seed: Annotated[int, Setting("Seed of the samples.", ge=0)] = 0,
    utility: Utility | None = None,
    generator: torch.Generator | None = None,
) -> DecodeOutput:
    r"""Draw n samples of each source and keep the one with the largest mean utility against all of them.

    .. math:: \arg\max_{h} \frac1n \sum_{i=1}^n u(h, y_i)

    The most probable output may resemble no other; this looks for one that is good whichever of the outputs is right.

    Args:
        model: A CTC or Vanilla NAT model, or an autoregressive one.
        batch: ``input_ids`` (B, S) and ``attention_mask`` (B, S).
        n: Samples of each source, at least 1; equal ones are compared once.
        temperature: Divides the logits; greater than 0.
        seed: Seed of the samples.
        utility: u; by default `ngram_overlap`. `sharpseq.evaluation.metric_utility` makes one of a metric of texts.
        generator: In place of ``seed``.

    Returns:
        The outputs with their log-probability under the distribution that they were drawn from. The trace has
        ``candidates`` (B, n, T) and ``candidate_scores`` (B, n), their mean utilities.

    Note:
        n² comparisons a source, beside the passes of sampling. Samples of one-pass models join parts of several
        outputs; for CTC and graphs, ``lattice_mbr`` chooses between better candidates.

    References:
        Eikema and Aziz 2020, "Is MAP decoding all you need?".
    """
    check_arguments(sample_mbr_decode, n=n, temperature=temperature, seed=seed)

    def consensus(_: Batch, sequences: Tensor, num_tokens: Tensor) -> Tensor:
        rows = [tuple(row[:length]) for row, length in zip(sequences.tolist(), num_tokens.tolist(), strict=True)]
        groups = [rows[start : start + n] for start in range(0, len(rows), n)]
        means = [mean for group in groups for mean in mean_utilities(group, utility or ngram_overlap)]
        return torch.tensor(means, dtype=torch.float64, device=sequences.device)

    found = best_of_n_decode(
        model, batch, n=n, temperature=temperature, seed=seed, rescorer=consensus, generator=generator
    )
    return replace(found, trace={name: found.trace[name] for name in ("candidates", "candidate_scores")})


def mean_utilities(samples: Sequence[Ids], utility: Utility) -> list[float]:
    """Return the mean utility of each sample, with every sample in turn as the reference.

    Example:
        >>> mean_utilities([(5,), (5,), (6,)], lambda ours, theirs: [float(a == b) for a, b in zip(ours, theirs)])
        [0.6666666666666666, 0.6666666666666666, 0.3333333333333333]
    """
    weights = Counter(samples)
    references = list(weights)
    pairs = [(hypothesis, reference) for hypothesis in references for reference in references]
    values = iter(utility([hypothesis for hypothesis, _ in pairs], [reference for _, reference in pairs]))
    means = {
        hypothesis: sum(weights[reference] * next(values) for reference in references) / len(samples)
        for hypothesis in references
    }
    return [means[sample] for sample in samples]


def ngram_overlap(hypotheses: Sequence[Ids], references: Sequence[Ids]) -> list[float]:
    """Return the F1 of n-grams of token ids, the mean over n = 1 … 4, of those orders that either side has.

    Example:
        >>> ngram_overlap([(5, 6), (5, 6), ()], [(5, 6), (5, 7), ()])
        [1.0, 0.25, 1.0]
    """
    counts = lru_cache(maxsize=None)(_ngram_counts)
    return [_overlap(counts(ours), counts(theirs)) for ours, theirs in zip(hypotheses, references, strict=True)]


def _ngram_counts(ids: Ids) -> list[Counter[Ids]]:
    orders = range(1, 5)
    return [Counter(ids[start : start + order] for start in range(len(ids) - order + 1)) for order in orders]


def _overlap(ours: list[Counter[Ids]], theirs: list[Counter[Ids]]) -> float:
    found = []
    for one, other in zip(ours, theirs, strict=True):
        if total := one.total() + other.total():
            found.append(2 * (one & other).total() / total)
    return sum(found) / len(found) if found else 1.0


SAMPLE_MBR = Decoder(
    sample_mbr_decode,
    (CtcModel, ParallelModel, AutoregressiveModel),
    Declaration(
        "sample_mbr",
        "of n samples, the one that resembles all of them most, by the overlap of n-grams or any metric",
        "Eikema and Aziz 2020",
        maturity="experimental",
    ),
)
