"""Bootstrap intervals, and the paired bootstrap between two systems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpseq.evaluation.measurement import Aggregate, FloatArray, Number

# Resamples are drawn in blocks of about this many sentence indices, 16 MB, so that memory does not grow with both the
# corpus and the number of resamples.
_BLOCK = 2_000_000
# Scores are below about 100 and come from a few float64 operations: differences closer than this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class BootstrapInterval:
    """A score and its 95% percentile interval over resampled corpora.

    Args:
        score: Score of the corpus itself.
        low: 2.5% quantile of the resampled scores.
        high: 97.5% quantile of the resampled scores.
        num_resamples: Number of resampled corpora.
        seed: Seed of the resampling.
    """

    score: Number
    low: Number
    high: Number
    num_resamples: int
    seed: int


@dataclass(frozen=True)
class PairedBootstrap:
    """The difference between two systems on the same sentences.

    Args:
        baseline_score: Score of the baseline.
        system_score: Score of the system.
        difference: System minus baseline, in the unit of the metric.
        low: 2.5% quantile of the resampled differences.
        high: 97.5% quantile of the resampled differences.
        p_value: Two-sided p-value of "the systems do not differ", in (0, 1]; NaN if a resample has no score.
        num_resamples: Number of resampled corpora.
        seed: Seed of the resampling.
    """

    baseline_score: float
    system_score: float
    difference: float
    low: float
    high: float
    p_value: float
    num_resamples: int
    seed: int


def resampled_totals(statistics: FloatArray, *, num_resamples: int, seed: int) -> FloatArray:
    """Return summed statistics of corpora drawn with replacement from the sentences.

    Instead of gathering rows, count how often each sentence was drawn and multiply: (R, N) @ (N, k).

    Args:
        statistics: Sufficient statistics of every sentence, shape (N, k).
        num_resamples: Number of corpora R, at least 1.
        seed: Seed of the draws; the same seed and N draw the same sentences.

    Returns:
        Sums, shape (R, k).

    Raises:
        ValueError: If ``statistics`` is not a non-empty matrix or ``num_resamples`` is below 1.

    Example:
        >>> totals = resampled_totals(np.array([[1.0, 0.0], [0.0, 1.0]]), num_resamples=3, seed=0)
        >>> totals.sum(axis=1)
        array([2., 2., 2.])
    """
    if statistics.ndim != 2 or statistics.shape[0] == 0:
        raise ValueError(f"`statistics` must have shape (N, k) with N at least 1; got {statistics.shape}")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` must be at least 1; got {num_resamples}")
    num_sentences = statistics.shape[0]
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // num_sentences)
    blocks = []
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = generator.integers(0, num_sentences, size=(size, num_sentences))
        drawn += num_sentences * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_sentences).reshape(size, num_sentences)
        blocks.append(counts.astype(np.float64) @ statistics)
    return np.concatenate(blocks)


def bootstrap_interval(
    statistics: FloatArray, aggregate: Aggregate, *, num_resamples: int = 1000, seed: int = 12345
) -> BootstrapInterval:
    """Return the score of a system and its 95% interval.

    Args:
        statistics: Sufficient statistics of every sentence, shape (N, k).
        aggregate: Maps summed statistics, shape (..., k), to scores, shape (...).
        num_resamples: Number of resampled corpora.
        seed: Seed of the resampling; the default is sacreBLEU's.

    Raises:
        ValueError: If ``statistics`` is not a non-empty matrix or ``num_resamples`` is below 1.

    Example:
        >>> interval = bootstrap_interval(np.array([[0.0], [1.0]] * 50), lambda totals: totals[..., 0])
        >>> interval.score, interval.low < 50 < interval.high
        (50.0, True)

    References:
        Koehn 2004, "Statistical significance tests for machine translation evaluation", section 3.
    """
    scores = aggregate(resampled_totals(statistics, num_resamples=num_resamples, seed=seed))
    low, high = np.quantile(scores, [0.025, 0.975])
    return BootstrapInterval(float(aggregate(statistics.sum(axis=0))), float(low), float(high), num_resamples, seed)


def paired_bootstrap(
    baseline_statistics: FloatArray,
    system_statistics: FloatArray,
    aggregate: Aggregate,
    *,
    num_resamples: int = 1000,
    seed: int = 12345,
) -> PairedBootstrap:
    r"""Test whether two systems differ on the same sentences.

    Both systems are scored on the same resampled corpora r, as in Koehn 2004. His p-value, the share of resamples that
    reverse the sign of the difference, is one-sided; here the differences :math:`d_r` are shifted to the mean that the
    hypothesis of equal systems asks for, and the tail is two-sided (Riezler and Maxwell 2005, figure 1):

    .. math:: p = \frac{1 + \#\{r : |d_r - \bar d| \ge |d|\}}{1 + R}

    sacreBLEU shifts the absolute values :math:`|d_r|` instead, which counts one tail only for clearly different systems
    and so halves p, and rejects ties: a system compared with itself gets p = 1/(1 + R) there and 1 here. The added 1
    is the corpus itself, without which the test would reject too often (Davison and Hinkley 1997, section 4.2).

    Args:
        baseline_statistics: Sufficient statistics of the baseline, shape (N, k).
        system_statistics: Sufficient statistics of the system on the same sentences, shape (N, k).
        aggregate: Maps summed statistics, shape (..., k), to scores, shape (...).
        num_resamples: Number of resampled corpora R; p is never below 1/(1 + R).
        seed: Seed of the resampling; the default is sacreBLEU's.

    Returns:
        The difference, its 95% percentile interval, and the p-value.

    Raises:
        ValueError: If the shapes differ, are not (N, k) with N at least 1, or ``num_resamples`` is below 1.

    Example:
        >>> same = np.arange(20.0).reshape(10, 2)
        >>> paired_bootstrap(same, same, lambda totals: totals[..., 0] / totals[..., 1]).p_value
        1.0

    References:
        Koehn 2004; Riezler and Maxwell 2005, "On some pitfalls in automatic evaluation and
        significance testing for MT".
    """
    if baseline_statistics.shape != system_statistics.shape:
        raise ValueError(
            "`baseline_statistics` and `system_statistics` must have the same shape; "
            f"got {baseline_statistics.shape} and {system_statistics.shape}"
        )
    both = np.concatenate([baseline_statistics, system_statistics], axis=-1)
    totals = resampled_totals(both, num_resamples=num_resamples, seed=seed)
    width = baseline_statistics.shape[1]
    differences = aggregate(totals[:, width:]) - aggregate(totals[:, :width])
    baseline_score = float(aggregate(baseline_statistics.sum(axis=0)))
    system_score = float(aggregate(system_statistics.sum(axis=0)))
    low, high = np.quantile(differences, [0.025, 0.975])
    return PairedBootstrap(
        baseline_score=baseline_score,
        system_score=system_score,
        difference=system_score - baseline_score,
        low=float(low),
        high=float(high),
        p_value=_shifted_p_value(differences, observed=system_score - baseline_score),
        num_resamples=num_resamples,
        seed=seed,
    )


def _shifted_p_value(differences: FloatArray, *, observed: float) -> float:
    """Return the two-sided p-value of the observed difference under resampled differences, shape (R,)."""
    # A comparison with NaN is false: without this an undefined metric would look highly significant.
    if not np.isfinite(differences).all() or not np.isfinite(observed):
        return float("nan")
    at_least_as_large = np.abs(differences - differences.mean()) >= abs(observed) - _ROUNDING
    return float((1 + np.count_nonzero(at_least_as_large)) / (1 + len(differences)))
