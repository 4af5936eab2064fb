"""Every row of the table of metrics keeps the contract of a metric."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

import numpy as np
import pytest

from sharpseq.evaluation import METRICS, Metric, MetricSpec, measure
from sharpseq.evaluation.metrics import metric_spec
from sharpseq.evaluation.sacrebleu_metrics import bleu

HYPOTHESES = ["the cat sat on the the mat", "a small dog runs home", "", "birds sing", "one two three four"]
REFERENCES = [
    ["the cat sat on the mat", "a cat was sitting on the mat"],
    ["a little dog is running home"],
    ["nothing was written here"],
    ["birds sing", "the birds are singing", "birds sing loudly"],
    ["one two three four five six"],
]

every_metric = pytest.mark.parametrize("name", METRICS)


def statistics(metric: Metric) -> np.ndarray:
    return metric.statistics(HYPOTHESES, REFERENCES)


@every_metric
def test_one_row_of_finite_statistics_per_sentence(name: str) -> None:
    rows = statistics(METRICS[name].factory())
    assert rows.dtype == np.float64
    assert rows.ndim == 2 and len(rows) == len(HYPOTHESES)
    assert np.isfinite(rows).all()


@every_metric
def test_aggregate_is_vectorised_over_leading_dimensions(name: str) -> None:
    metric = METRICS[name].factory()
    rows = statistics(metric)
    totals = np.stack([rows.sum(axis=0), rows[:2].sum(axis=0), 3 * rows[1:].sum(axis=0), rows[0]]).reshape(2, 2, -1)
    together = metric.aggregate(totals)
    apart = [[float(metric.aggregate(total)) for total in pair] for pair in totals]
    assert together.shape == (2, 2)
    np.testing.assert_allclose(together, apart, rtol=1e-14)


@every_metric
def test_a_sentence_counts_the_same_in_any_company(name: str) -> None:
    metric = METRICS[name].factory()
    alone = [
        metric.statistics([hypothesis], [refs])[0] for hypothesis, refs in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    np.testing.assert_array_equal(statistics(metric), alone)


@every_metric
def test_aggregate_leaves_its_argument_alone(name: str) -> None:
    metric = METRICS[name].factory()
    totals = statistics(metric).sum(axis=0)
    before = totals.copy()
    metric.aggregate(totals)
    np.testing.assert_array_equal(totals, before)


@every_metric
def test_perfect_outputs_beat_poor_ones_in_the_direction_of_the_metric(name: str) -> None:
    perfect = measure(name, [refs[0] for refs in REFERENCES], REFERENCES).result
    poor = measure(name, HYPOTHESES, REFERENCES).result
    spec = METRICS[name]
    assert perfect.higher_is_better == spec.higher_is_better
    if spec.higher_is_better is None:
        assert perfect.score == 1
    elif spec.higher_is_better:
        assert poor.score < perfect.score
        assert perfect.score == pytest.approx(100)
    else:
        assert poor.score > perfect.score == 0


@every_metric
def test_the_order_of_references_does_not_matter(name: str) -> None:
    backwards = [list(reversed(refs)) for refs in REFERENCES]
    assert measure(name, HYPOTHESES, backwards).result.score == measure(name, HYPOTHESES, REFERENCES).result.score


@every_metric
def test_a_blank_reference_beside_another_one_is_a_missing_one(name: str) -> None:
    hypotheses, references = ["", "the cat", "the cat sat"], [["the cat sat on"], ["the cat sat"], ["the dog sat on"]]
    blanks = [["the cat sat on", ""], [" ", "the cat sat"], ["", "the dog sat on", "\t"]]
    with_blanks, without = measure(name, hypotheses, blanks), measure(name, hypotheses, references)
    assert with_blanks.result == without.result
    assert (with_blanks.statistics == without.statistics).all()
    nothing = measure(name, ["", "a b"], [["", " "], [" ", ""]]).result
    assert repr(nothing) == repr(measure(name, ["", "a b"], [[""], [""]]).result)


def test_progress_is_reported_where_lines_are_long() -> None:
    long, short = "a b c d e " * 30, "a b"
    called: list[tuple[str, int]] = []

    def on_progress(metric: MetricSpec, done: int) -> None:
        called.append((metric.name, done))

    corpus = ([long, short], [[long], [short, long]])
    for name in METRICS:
        assert (measure(name, *corpus, on_progress=on_progress).statistics == measure(name, *corpus).statistics).all()
    assert called == [("ter", 0), ("ter", 1), ("ter", 2)]
    measure("ter", [short, long], [[short], [short]], on_progress=on_progress)
    assert len(called) == 3
    assert METRICS["ter"].slow_notice == "ter: lines of 150 words or more take long, up to minutes each"


@every_metric
def test_only_empty_outputs(name: str) -> None:
    score = measure(name, ["", ""], [["a b"], ["c d"]]).result.score
    assert score == {"ter": 100, "word_error_rate": 100, "phoneme_error_rate": 100}.get(name, 0)


@every_metric
def test_rejects_an_empty_corpus(name: str) -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        measure(name, [], [])


@every_metric
def test_rejects_unequal_lengths(name: str) -> None:
    with pytest.raises(ValueError, match="same length; got 2 and 1"):
        measure(name, ["a", "b"], [["a"]])


@every_metric
def test_rejects_a_sentence_without_references(name: str) -> None:
    with pytest.raises(ValueError, match=r"`references\[1\]` must hold at least one"):
        measure(name, ["a", "b"], [["a"], []])


@every_metric
def test_rejects_references_that_are_plain_strings(name: str) -> None:
    with pytest.raises(TypeError, match=r"\[\[reference\] for reference in references\]"):
        measure(name, ["a"], ["a"])
    with pytest.raises(TypeError, match="got a string"):
        measure(name, "a", [["a"]])


@every_metric
def test_every_row_is_filled_in(name: str) -> None:
    spec = METRICS[name]
    assert spec.name == name
    assert spec.declaration.summary and "\n" not in spec.declaration.summary
    assert spec.declaration.reference[-4:].isdigit()
    assert spec.unit in {"points", "percent", "ratio"}


def test_the_table_is_read_only() -> None:
    with pytest.raises(TypeError):
        METRICS["bleu"] = METRICS["ter"]  # type: ignore[index]


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of bleu, .*; got 'blue'"):
        metric_spec("blue")


def test_a_row_of_your_own_brings_its_settings() -> None:
    spec = dataclasses.replace(METRICS["bleu"], name="bleu_lowercase", factory=partial(bleu, lowercase=True))
    measured = measure(spec, ["The Cat Sat Down"], [["the cat sat down"]])
    assert measured.result.name == "bleu_lowercase"
    assert measured.result.score == pytest.approx(100)
    assert "case:lc" in (measured.result.signature or "")


def test_a_missing_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(ImportError, match=r"pip install 'sharpseq\[rouge\]'"):
        measure("rouge1", ["a"], [["a"]])
