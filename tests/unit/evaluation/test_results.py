"""Gathering a result, and its way through JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpseq import UserError
from sharpseq.evaluation import (
    BootstrapInterval,
    ConfidenceReport,
    EvaluationResult,
    MetricResult,
    SpeedResult,
    bootstrap_interval,
    evaluate_outputs,
    measure,
)

HYPOTHESES = ["a a b", "c d", ""]
REFERENCES = [["a b"], ["c d", "c"], ["e"]]


def full_result() -> EvaluationResult:
    return evaluate_outputs(
        HYPOTHESES,
        REFERENCES,
        metrics=["bleu", "exact_match"],
        system="CTC",
        data="test",
        log_prob=[-3.0, -1.0, -0.5],
        num_tokens=[3, 2, 0],
        speed=[SpeedResult(1, 3, 3, 2.0, 1.5, 2.5, 500.0, None, 1)],
        num_passes=1,
        decoder_settings={"decoder": "argmax", "length_beam": 5, "scores": [1, 2.5, None]},
        keep_hypotheses=True,
        num_resamples=50,
    )


def test_gathers_everything() -> None:
    result = full_result()
    assert result.num_sentences == 3
    assert result.metrics == {name: measure(name, HYPOTHESES, REFERENCES).result for name in ("bleu", "exact_match")}
    measured = measure("exact_match", HYPOTHESES, REFERENCES)
    assert result.intervals["exact_match"] == bootstrap_interval(
        measured.statistics, measured.aggregate, num_resamples=50
    )
    assert result.repetition_rate == 20
    assert result.length_ratio == 5 / 5
    assert result.confidence == ConfidenceReport(1.5, 0.9, 3, 5)
    assert result.hypotheses == ("a a b", "c d", "")
    assert result.versions.keys() == {"python", "sharpseq", "torch", "transformers", "sacrebleu"}
    assert all(version[0].isdigit() for version in result.versions.values())


def test_leaves_out_what_is_not_asked_for() -> None:
    result = evaluate_outputs(HYPOTHESES, REFERENCES, metrics=["chrf"], num_resamples=0)
    assert (result.intervals, result.confidence, result.hypotheses, result.speed) == ({}, None, None, ())


def test_survives_json_unchanged() -> None:
    result = full_result()
    assert EvaluationResult.from_json(result.to_json()) == result
    assert EvaluationResult.from_json(result.to_json()).to_json() == result.to_json()


numbers = st.floats(allow_nan=False)
words = st.text(max_size=8)


@given(
    score=numbers,
    low=numbers,
    name=words,
    signature=st.none() | words,
    direction=st.none() | st.booleans(),
    hypotheses=st.none() | st.lists(words).map(tuple),
    num_passes=st.none() | numbers,
    settings=st.dictionaries(words, st.none() | st.integers() | words | st.booleans()),
)
def test_any_result_survives_json_unchanged(
    score: float,
    low: float,
    name: str,
    signature: str | None,
    direction: bool | None,
    hypotheses: tuple[str, ...] | None,
    num_passes: float | None,
    settings: dict[str, Any],
) -> None:
    result = EvaluationResult(
        system=name,
        data="data",
        num_sentences=1,
        metrics={name: MetricResult(name, score, signature, direction)},
        intervals={name: BootstrapInterval(score, low, math.inf, 10, 1)},
        repetition_rate=low,
        length_ratio=-math.inf,
        num_passes=num_passes,
        decoder_settings=settings,
        hypotheses=hypotheses,
    )
    assert EvaluationResult.from_json(result.to_json()) == result


def test_an_undefined_score_survives_as_nan_and_the_document_is_valid_json() -> None:
    result = replace(full_result(), length_ratio=math.nan, hypotheses=("NaN",))

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(result.to_json(), parse_constant=no_constants)
    again = EvaluationResult.from_json(result.to_json())
    assert math.isnan(again.length_ratio)
    assert again.hypotheses == ("NaN",)


def changed(path: str, value: Any) -> str:
    document = json.loads(full_result().to_json())
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n  oops", r"^eval\.json:2: not JSON"),
        ("[]", r"^eval\.json: not an evaluation result of format 1"),
        (changed("format_version", 2), "`format_version` is 2"),
        (changed("system", KeyError), "`system` is missing"),
        (changed("blue", 1), "`blue`: unknown key"),
        (changed("metrics.bleu.score", None), r"`metrics\.bleu\.score`: input should be a valid number; got null"),
        (changed("metrics.bleu.score", "high"), 'should be a valid number; got "high"'),
        (changed("metrics.bleu.score", True), "should be a valid number; got true"),
        (changed("metrics.bleu.higher_is_better", 1), "should be a valid boolean; got 1"),
        (changed("metrics.bleu", []), r"`metrics\.bleu`: input should be an object"),
        (changed("metrics", []), "`metrics`: input should be an object"),
        (changed("num_sentences", 3.0), r"`num_sentences`: input should be a valid integer; got 3\.0"),
        (changed("num_sentences", True), "`num_sentences`: input should be a valid integer; got true"),
        (changed("hypotheses", ["a", 1]), r"`hypotheses\.1`: input should be a valid string; got 1"),
        (changed("speed", {}), "`speed`: input should be a valid array"),
        (changed("versions", KeyError), "`versions` is missing"),
        ("[" * 100_000, r"^eval\.json: not JSON that can be read"),
        ("9" * 5000, r"^eval\.json: not JSON that can be read"),
        (changed("confidence.num_tokens", KeyError), r"`confidence\.num_tokens`: the key is missing"),
    ],
)
def test_a_foreign_document_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        EvaluationResult.from_json(text, source="eval.json")
    assert "\n" not in str(error.value)


def test_settings_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        replace(full_result(), decoder_settings={"beam": {1}}).to_json()
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(full_result(), decoder_settings={"penalty": math.nan}).to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_prob": [-1.0, -1.0, -1.0]}, "given together"),
        ({"log_prob": [-1.0], "num_tokens": [1]}, "one entry per hypothesis; got 1 for 3"),
    ],
)
def test_rejects_log_probabilities_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_outputs(HYPOTHESES, REFERENCES, metrics=[], **options)


def test_rejects_an_empty_corpus() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        evaluate_outputs([], [], metrics=[])
