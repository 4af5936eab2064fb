"""BLEU, chrF and TER are those of sacreBLEU, taken apart and put together again."""

from __future__ import annotations

import random
from itertools import zip_longest

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from sharpseq.evaluation import measure
from sharpseq.evaluation.sacrebleu_metrics import SacrebleuMetric, bleu

SCORERS = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
WORDS = ["a", "the", "dog", "cat", "runs,", "sleeps.", "on", "under", "“mat”", "house!", "Größe", "don't", "3.5"]

every_scorer = pytest.mark.parametrize("name", SCORERS)


def sentences(seed: int, count: int = 60) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, 12))) for _ in range(count)]


def corpora() -> dict[str, tuple[list[str], list[list[str]]]]:
    hypotheses, first, second = sentences(1), sentences(2), sentences(3)
    return {
        "one reference": (hypotheses, [[reference] for reference in first]),
        "two references": (hypotheses, [list(pair) for pair in zip(first, second, strict=True)]),
        "one or two": (hypotheses, [[a, b] if len(a) % 2 else [a] for a, b in zip(first, second, strict=True)]),
        "one sentence": (["the dog runs, on"], [["the dog runs, under"]]),
        "empty output": ([""], [["the dog"]]),
        "no overlap": (["x y z"], [["a b c"]]),
    }


@every_scorer
@pytest.mark.parametrize("corpus", corpora())
def test_equals_the_public_corpus_score_and_signature(name: str, corpus: str) -> None:
    hypotheses, references = corpora()[corpus]
    scorer = SCORERS[name]()
    # Some of these references are blank: beside another one they are missing, which sacreBLEU writes as None.
    present = [[text for text in texts if text] or [""] for texts in references]
    expected = scorer.corpus_score(hypotheses, list(zip_longest(*present)))
    result = measure(name, hypotheses, references).result
    assert result.score == pytest.approx(expected.score, abs=1e-10)
    assert result.signature == str(scorer.get_signature())


def test_bleu_by_hand() -> None:
    # Clipped precisions 5/6 ("the" counts once), 3/5, 2/4 and 1/3; equal lengths, no penalty.
    score = measure("bleu", ["the cat sat on the mat"], [["the cat sat on a mat"]]).result.score
    assert score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_bleu_penalises_short_outputs_against_the_nearest_reference() -> None:
    # All n-grams match; 5 words against references of 6 and 9 words: exp(1 - 6/5).
    references = [["a b c d e f", "a b c d e f g h i"]]
    assert measure("bleu", ["a b c d e"], references).result.score == pytest.approx(100 * 2.718281828459045**-0.2)


def test_chrf_by_hand() -> None:
    # Unigrams: precision and recall 1/2; bigrams: 0; no longer n-grams: means 1/4, and F of two equal numbers.
    assert measure("chrf", ["ab"], [["ac"]]).result.score == pytest.approx(25)


def test_ter_by_hand() -> None:
    # One substitution in four words, then a block shift, which is one edit, in five.
    assert measure("ter", ["a b c d", "c d e a b"], [["a b x d"], ["a b c d e"]]).result.score == pytest.approx(200 / 9)


def test_settings_reach_sacrebleu() -> None:
    metric = bleu(tokenize="char", smooth_method="add-k")
    rows = metric.statistics(["abcd", "ab"], [["abxd"], ["ab"]])
    expected = BLEU(tokenize="char", smooth_method="add-k").corpus_score(["abcd", "ab"], [["abxd", "ab"]]).score
    # Twice, because add-k smoothing writes into the counts it is given.
    assert float(metric.aggregate(rows.sum(axis=0))) == pytest.approx(expected)
    assert float(metric.aggregate(rows.sum(axis=0))) == pytest.approx(expected)


def test_says_so_if_sacrebleu_has_changed_inside() -> None:
    with pytest.raises(ImportError, match="has no _extract_corpus_statistics and no _compute_score_from_stats"):
        SacrebleuMetric(object())  # type: ignore[arg-type]
