"""Means of the output negative log-likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sharpseq.evaluation import measure_confidence, output_nll_per_token


def test_means_per_sentence_and_per_token() -> None:
    report = measure_confidence([-6.0, -1.0, 0.0], [3, 4, 1])
    assert report.nll_per_sentence == pytest.approx(7 / 3)
    assert report.nll_per_token == pytest.approx(7 / 8)
    assert (report.num_sentences, report.num_tokens) == (3, 8)


def test_takes_tensors() -> None:
    assert measure_confidence(torch.tensor([-2.0]), torch.tensor([4])).nll_per_token == 0.5


def test_an_impossible_output_is_infinitely_surprising() -> None:
    assert measure_confidence([-math.inf, -1.0], [1, 1]).nll_per_sentence == math.inf


def test_only_empty_outputs_have_no_confidence_per_token() -> None:
    report = measure_confidence([-1.0], [0])
    assert report.nll_per_sentence == 1
    assert math.isnan(report.nll_per_token)


def test_histogram_values_leave_empty_outputs_out() -> None:
    np.testing.assert_array_equal(output_nll_per_token([-6.0, -1.0, -1.0], [3, 0, 4]), [2.0, 0.25])


@pytest.mark.parametrize(
    ("log_prob", "num_tokens", "message"),
    [
        ([], [], "N at least 1"),
        ([-1.0], [1, 2], r"got \(1,\) and \(2,\)"),
        ([-1.0, math.nan], [1, 1], "at most 0; got nan at index 1"),
        ([-1.0, 2.0], [1, 1], r"at most 0; got 2\.0 at index 1"),
        ([-1.0], [-1], "`num_tokens` must be at least 0"),
        ([[-1.0]], [[1]], "same shape"),
    ],
)
def test_rejects_what_is_no_log_probability(log_prob: list[float], num_tokens: list[int], message: str) -> None:
    for function in (measure_confidence, output_nll_per_token):
        with pytest.raises(ValueError, match=message):
            function(log_prob, num_tokens)
