"""What lengths do: break-even shares against their formula, against enumeration, and where the winner changes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from theory_references import NumpyTransform, Reference, by_enumeration

from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform
from sharpseq.theory import break_even_share, optimal_distribution, winner_switches

BOTH = ["sequence_mean", "token_mean"]


def odds(share: float) -> float:
    return share / (1 - share)


@pytest.mark.parametrize("weighting", BOTH)
@pytest.mark.parametrize("k", [0.0, 0.5, 2.0, 3.9])
@pytest.mark.parametrize(("short", "long"), [(4, 4), (4, 5), (4, 12)])
def test_below_both_lengths_the_share_follows_the_formula(short: int, long: int, k: float, weighting: Any) -> None:
    share = break_even_share(BoxCox(k), short=short, long=long, weighting=weighting)
    by_length = short / long if weighting == "sequence_mean" else 1.0
    assert odds(share) == pytest.approx(by_length * 2 ** (k * (1 / short - 1 / long)), rel=1e-12)


@pytest.mark.parametrize("k", [12.0, 12.5, 100.0])
def test_above_both_lengths_the_larger_stake_wins(k: float) -> None:
    assert break_even_share(Exponential(k), short=4, long=12) == pytest.approx(1 / 2, abs=1e-9)
    by_token = break_even_share(Exponential(k), short=4, long=12, weighting="token_mean")
    assert by_token == pytest.approx(3 / 4, abs=1e-9)


@pytest.mark.parametrize("weighting", BOTH)
@pytest.mark.parametrize("transform", [Exponential(5.0), Exponential(8.0), Exponential(11.9)])
def test_on_both_sides_of_the_share_one_outcome_has_more_than_half(transform: Transform, weighting: Any) -> None:
    share = break_even_share(transform, short=4, long=12, weighting=weighting)
    for step in (-1e-6, 1e-6):
        p = [share + step, 1 - share - step]
        probs = optimal_distribution(p, transform, lengths=[4, 12], weighting=weighting).probs
        assert (float(probs[0]) > 0.5) == (step > 0)


@pytest.mark.parametrize("weighting", BOTH)
@pytest.mark.parametrize("k", [0.5, 0.7, 0.95])
def test_the_power_transform_divides_by_a_power_of_the_length(k: float, weighting: Any) -> None:
    """F_T = T^{−k} F_1, so the odds are (S/L)^k, and weights of T turn it over."""
    share = break_even_share(Power(k), short=4, long=12, weighting=weighting)
    weight = 3.0 if weighting == "token_mean" else 1.0
    assert odds(share) == pytest.approx(weight * (1 / 3) ** k, rel=1e-6)


def test_weighting_turns_the_bias_over() -> None:
    """Per sequence every k below the long length favours the short outcome, per token every k favours the long one."""
    ks = [0.0, 1.0, 3.0, 5.0, 8.0]
    by_sequence = [break_even_share(BoxCox(k), short=5, long=10) for k in ks]
    by_token = [break_even_share(BoxCox(k), short=5, long=10, weighting="token_mean") for k in ks]
    assert by_sequence == sorted(by_sequence)
    assert by_token == sorted(by_token)
    assert max(by_sequence) < 0.5 <= min(by_token)


def test_a_short_outcome_sharpens_sooner() -> None:
    """Two pairs of the same odds, one of length 4 and one of length 12: the odds of the short pair grow faster."""
    p, lengths = np.array([0.3, 0.2, 0.3, 0.2]), [4, 4, 12, 12]
    for k in (1.0, 2.0, 3.5):
        log_probs = optimal_distribution(p, Exponential(k), lengths=lengths).log_probs
        assert float(log_probs[0] - log_probs[1]) == pytest.approx(math.log(1.5) / (1 - k / 4), rel=1e-12)
        assert float(log_probs[2] - log_probs[3]) == pytest.approx(math.log(1.5) / (1 - k / 12), rel=1e-12)
    from_its_length_on = optimal_distribution(p, Exponential(4.0), lengths=lengths).probs
    assert (from_its_length_on[1], bool((from_its_length_on[2:] > 0).all())) == (0, True)


def test_the_winner_changes_where_both_have_half() -> None:
    """p = (0.4, 0.6), T = (3, 6): the formula for odds gives k = log2(2 · 2/3) · 6."""
    (switch,) = winner_switches([0.4, 0.6], lengths=[3, 6])
    assert (switch.before, switch.after) == (0, 1)
    assert switch.k == pytest.approx(6 * math.log2(4 / 3), abs=2e-6)
    assert winner_switches([0.4, 0.6], lengths=[3, 6], weighting="token_mean") == []
    assert winner_switches([0.4, 0.6], lengths=[5, 5]) == []


def test_a_winner_can_come_back() -> None:
    """Between the two last switches the short outcome is behind; enumeration of supports agrees on every side."""
    p, lengths = np.array([0.5, 0.3, 0.2]), np.array([16.0, 8.0, 4.0])
    switches = winner_switches(p, lengths=lengths)
    assert [switch.after for switch in switches] == [1, 0, 1, 0]
    for switch in switches:
        for k, winner in ((switch.k - 1e-3, switch.before), (switch.k + 1e-3, switch.after)):
            by_hand = NumpyTransform(lambda g, k=k: np.exp(k * g), lambda g, k=k: np.log(k) + k * g, 0.0)
            assert by_enumeration(Reference(p, lengths, by_hand)).argmax() == winner


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="`short` must be at most `long`; got 5 and 4"):
        break_even_share(Identity(), short=5, long=4)
    with pytest.raises(ValueError, match="`lengths` must be at least 1; got 0 at index 0"):
        break_even_share(Identity(), short=0, long=4)
    with pytest.raises(ValueError, match="`transform` must increase"):
        break_even_share(torch.neg, short=2, long=4)
