"""ROUGE is that of the rouge-score package, averaged over the corpus."""

from __future__ import annotations

from statistics import mean

import pytest

from sharpseq.evaluation import measure
from sharpseq.evaluation.rouge import rouge

HYPOTHESES = ["the quick cats jumped", "a dog", "", "police killed the gunman"]
REFERENCES = [
    ["the quick cat jumps over", "cats jump"],
    ["one dog runs", "two dogs run home"],
    ["something"],
    ["the gunman was killed by police"],
]


@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL"])
def test_equals_the_mean_of_rouge_scores_best_f_measures(variant: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([variant], use_stemmer=True)
    best = [
        max(scorer.score(reference, hypothesis)[variant].fmeasure for reference in references)
        for hypothesis, references in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    assert measure(variant, HYPOTHESES, REFERENCES).result.score == pytest.approx(100 * mean(best))


def test_by_hand() -> None:
    # Precision 1, recall 2/3; bigrams 1 and 1/2; the subsequence is the two words.
    scores = [measure(name, ["the cat"], [["the cat sat"]]).result.score for name in ("rouge1", "rouge2", "rougeL")]
    assert scores == pytest.approx([80, 100 * 2 / 3, 80])


def test_the_stemmer_can_be_left_out_and_the_signature_says_so() -> None:
    metric = rouge("rouge1", use_stemmer=False)
    assert float(metric.aggregate(metric.statistics(["cats"], [["cat"]]).sum(axis=0))) == 0
    assert "stem:no" in (metric.settings or "")
    assert "stem:yes" in (measure("rouge1", ["cats"], [["cat"]]).result.signature or "")


def test_rejects_an_unknown_variant() -> None:
    with pytest.raises(ValueError, match="got 'rouge9'"):
        rouge("rouge9")
