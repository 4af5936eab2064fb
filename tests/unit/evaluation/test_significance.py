"""The bootstrap against plain loops, normal theory, and its own limits."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from sharpseq.evaluation import bootstrap_interval, compare_systems, measure, paired_bootstrap, significance
from sharpseq.evaluation.measurement import FloatArray
from sharpseq.evaluation.significance import resampled_totals


def ratio(totals: FloatArray) -> FloatArray:
    return 100 * totals[..., 0] / totals[..., 1]


def mean(totals: FloatArray) -> FloatArray:
    return totals[..., 0] / totals[..., 1]


def counts(seed: int, size: int = 40) -> FloatArray:
    generator = np.random.default_rng(seed)
    total = generator.integers(3, 12, size)
    return np.stack([generator.binomial(total, 0.4), total], axis=1).astype(float)


def with_ones(values: FloatArray) -> FloatArray:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_equals_a_loop_over_the_same_indices() -> None:
    baseline, system = counts(1), counts(2)
    result = paired_bootstrap(baseline, system, ratio, num_resamples=300, seed=7)
    drawn = np.random.default_rng(7).integers(0, 40, size=(300, 40))
    differences = []
    for indices in drawn:
        hits = [sum(rows[index, 0] for index in indices) for rows in (baseline, system)]
        totals = [sum(rows[index, 1] for index in indices) for rows in (baseline, system)]
        differences.append(100 * hits[1] / totals[1] - 100 * hits[0] / totals[0])
    observed = 100 * system[:, 0].sum() / system[:, 1].sum() - 100 * baseline[:, 0].sum() / baseline[:, 1].sum()
    middle = sum(differences) / 300
    extreme = sum(abs(difference - middle) >= abs(observed) for difference in differences)
    assert result.p_value == (1 + extreme) / 301
    assert 1 < extreme < 299
    assert result.difference == pytest.approx(observed)
    assert result.system_score - result.baseline_score == result.difference
    ordered = sorted(differences)
    # Quantiles by linear interpolation: 0.025 * 299 = 7.475.
    assert result.low == pytest.approx(ordered[7] + 0.475 * (ordered[8] - ordered[7]))
    assert result.high == pytest.approx(ordered[291] + 0.525 * (ordered[292] - ordered[291]))


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = resampled_totals(counts(3), num_resamples=50, seed=1)
    for block in (1, 120, 1999):
        monkeypatch.setattr(significance, "_BLOCK", block)
        np.testing.assert_array_equal(resampled_totals(counts(3), num_resamples=50, seed=1), at_once)


def test_resampling_bleu_equals_scoring_the_resampled_text() -> None:
    hypotheses = ["the cat sat on the mat", "a dog runs to its house", "one two three four five", "we like it a lot"]
    references = [["the cat sat on a mat"], ["a dog ran to its house"], ["one two three four six"], ["we like it"]]
    measured = measure("bleu", hypotheses, references)
    totals = resampled_totals(measured.statistics, num_resamples=20, seed=3)
    for total, indices in zip(totals, np.random.default_rng(3).integers(0, 4, size=(20, 4)), strict=True):
        again = measure("bleu", [hypotheses[index] for index in indices], [references[index] for index in indices])
        assert float(measured.aggregate(total)) == pytest.approx(again.result.score)


def test_a_system_does_not_differ_from_itself() -> None:
    result = paired_bootstrap(counts(1), counts(1), ratio)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_constant_difference_has_the_smallest_p_value() -> None:
    baseline = with_ones(np.random.default_rng(0).normal(size=30))
    result = paired_bootstrap(baseline, baseline + np.array([1.0, 0.0]), mean, num_resamples=99)
    assert result.p_value == 1 / 100
    assert (result.low, result.high) == (pytest.approx(1), pytest.approx(1))


def test_swapping_the_systems_mirrors_the_result() -> None:
    one, other = paired_bootstrap(counts(1), counts(2), ratio), paired_bootstrap(counts(2), counts(1), ratio)
    assert one.p_value == other.p_value
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))


@pytest.mark.parametrize("shift", [0.02, 0.08, -0.08, 0.15])
def test_agrees_with_normal_theory_on_a_mean(shift: float) -> None:
    generator = np.random.default_rng(5)
    baseline = generator.normal(size=400)
    differences = generator.normal(size=400)
    # Centred, so that the observed difference is the shift itself.
    system = baseline + differences - differences.mean() + shift
    result = paired_bootstrap(with_ones(baseline), with_ones(system), mean, num_resamples=4000)
    error = differences.std() / math.sqrt(400)
    assert result.p_value == pytest.approx(2 * NormalDist().cdf(-abs(shift) / error), abs=0.03)
    assert (result.low, result.high) == pytest.approx((shift - 1.96 * error, shift + 1.96 * error), abs=0.01)


def test_rejects_equal_systems_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    rejections = [
        paired_bootstrap(with_ones(one), with_ones(other), mean, num_resamples=199, seed=seed).p_value <= 0.05
        for seed, (one, other) in enumerate(generator.normal(size=(600, 2, 60)))
    ]
    # 30 expected, standard deviation 5.3; one tail for two would give about 60.
    assert 15 <= sum(rejections) <= 47


def test_an_undefined_metric_is_never_significant() -> None:
    # One sentence of two has a reference: resamples without it have no ratio.
    baseline, system = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[2.0, 2.0], [0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        result = paired_bootstrap(baseline, system, ratio)
    assert math.isnan(result.p_value)


def test_interval_agrees_with_normal_theory() -> None:
    values = np.random.default_rng(2).normal(10, 2, size=900)
    interval = bootstrap_interval(with_ones(values), mean, num_resamples=4000)
    half = 1.96 * values.std() / 30
    assert interval.score == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.012)


def test_another_seed_draws_other_corpora() -> None:
    one, same, other = (bootstrap_interval(counts(1), ratio, num_resamples=50, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)


@pytest.mark.parametrize(
    ("statistics", "num_resamples", "message"),
    [
        (np.zeros((0, 2)), 10, r"N at least 1; got \(0, 2\)"),
        (np.zeros(3), 10, r"shape \(N, k\)"),
        (np.ones((3, 2)), 0, "`num_resamples` must be at least 1; got 0"),
    ],
)
def test_rejects_what_cannot_be_resampled(statistics: FloatArray, num_resamples: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(statistics, ratio, num_resamples=num_resamples)


def test_rejects_systems_on_different_corpora() -> None:
    with pytest.raises(ValueError, match=r"same shape; got \(40, 2\) and \(39, 2\)"):
        paired_bootstrap(counts(1), counts(1, size=39), ratio)


def test_compares_every_system_with_the_first() -> None:
    references = [["a"], ["b"], ["c"], ["d"]]
    systems = {"first": ["a", "x", "x", "x"], "second": ["a", "b", "c", "x"], "third": ["a", "x", "x", "x"]}
    comparisons = compare_systems(systems, references, metrics=["exact_match", "word_error_rate"], num_resamples=99)
    found = [(entry.metric, entry.baseline, entry.system, entry.bootstrap.difference) for entry in comparisons]
    assert found == [
        ("exact_match", "first", "second", 50),
        ("exact_match", "first", "third", 0),
        ("word_error_rate", "first", "second", -50),
        ("word_error_rate", "first", "third", 0),
    ]
    assert comparisons[0].bootstrap.p_value == comparisons[2].bootstrap.p_value
    assert comparisons[1].bootstrap.p_value == 1


def test_comparing_needs_two_systems_of_equal_length() -> None:
    with pytest.raises(ValueError, match="at least two systems; got 1"):
        compare_systems({"only": ["a"]}, [["a"]], metrics=["bleu"])
    with pytest.raises(ValueError, match="same length"):
        compare_systems({"a": ["a"], "b": ["a", "b"]}, [["a"]], metrics=["exact_match"])
