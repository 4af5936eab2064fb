"""KLOM against counting by hand, and its floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sharpseq.objectives.unlearning import klom, klom_floor, margins


def test_margins_are_log_odds() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64)
    labels = torch.tensor([0, 6, 3, 3, 1])
    probability = logits.softmax(1)[torch.arange(5), labels]
    torch.testing.assert_close(margins(logits, labels), torch.logit(probability))


def test_klom_is_the_divergence_of_histograms() -> None:
    unlearned, retrained = torch.randn(30, 4, dtype=torch.float64), torch.randn(40, 4, dtype=torch.float64) + 0.5
    found = klom(unlearned, retrained, num_bins=6)
    for column in range(4):
        a, b = unlearned[:, column].numpy(), retrained[:, column].numpy()
        edges = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 7)
        p, q = (np.histogram(each, edges)[0] / len(each) for each in (a, b))
        expected = sum(x * math.log(x / max(y, 1e-5)) for x, y in zip(p, q, strict=True) if x > 0)
        assert found[column].item() == pytest.approx(expected, rel=1e-9)


def test_what_is_the_same_is_0_and_directions_differ() -> None:
    sample = torch.randn(50, 2)
    assert klom(sample, sample).tolist() == [0, 0]
    assert klom(torch.zeros(3, 1), torch.zeros(5, 1)).tolist() == [0]
    wide, narrow = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1)
    assert klom(narrow, wide, num_bins=2).item() == pytest.approx(math.log(2))
    assert klom(wide, narrow, num_bins=2).item() == pytest.approx(0.5 * math.log(0.5) + 0.5 * math.log(0.5 / 1e-5))
    assert klom(torch.tensor([[150.0]]), torch.tensor([[1e9]])).item() == 0  # both clipped to 100


def test_the_floor_falls_with_the_number_of_models() -> None:
    """About 0.85, 0.33, 0.15 and 0.02 nats, measured with code of its own before this was written."""
    floors = [klom_floor(count, count) for count in (50, 100, 200, 1000)]
    assert floors == pytest.approx([0.85, 0.33, 0.15, 0.02], abs=0.12)
    assert floors == sorted(floors, reverse=True)


def test_a_shift_of_one_deviation_is_above_the_floor() -> None:
    shifted = klom(torch.randn(200, 500) + 1, torch.randn(200, 500)).mean().item()
    assert shifted > 3 * klom_floor(200, 200)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match=r"must have shapes \(U, Q\) and \(R, Q\)"):
        klom(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="at least one model each"):
        klom(torch.zeros(0, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="`num_bins` must be at least 2"):
        klom(torch.zeros(3, 2), torch.zeros(3, 2), num_bins=1)
