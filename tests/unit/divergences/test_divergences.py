"""Divergences: exact values from another formulation, and the properties that all of them have."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from sharpseq.divergences import (
    DIVERGENCES,
    Alpha,
    ChiSquareMixture,
    FDivergence,
    Jeffreys,
    JensenShannon,
    KullbackLeibler,
    LeCam,
    NeymanChiSquare,
    OwnGenerator,
    PearsonChiSquare,
    ReverseKullbackLeibler,
    SkewKullbackLeibler,
    SkewReverseKullbackLeibler,
    SoftenedReverseKullbackLeibler,
    SquaredHellinger,
    TotalVariation,
    Tsallis,
)

P, Q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.2, 0.2, 0.2, 0.4])


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(rel_entr(p, q).sum())


# Each with the target P and the model Q, written in NumPy and SciPy from the textbook definition, not from a generator.
# KL by SciPy's rel_entr; the others by plain sums over the four outcomes.
VALUES: list[tuple[FDivergence, float]] = [
    (KullbackLeibler(), kl(P, Q)),
    (ReverseKullbackLeibler(), kl(Q, P)),
    (Jeffreys(), kl(P, Q) + kl(Q, P)),
    (JensenShannon(), 0.5 * kl(P, (P + Q) / 2) + 0.5 * kl(Q, (P + Q) / 2)),
    (JensenShannon(0.2), 0.2 * kl(P, 0.2 * P + 0.8 * Q) + 0.8 * kl(Q, 0.2 * P + 0.8 * Q)),
    (SkewKullbackLeibler(0.1), kl(P, 0.1 * P + 0.9 * Q)),
    (SkewReverseKullbackLeibler(0.3), kl(Q, 0.3 * Q + 0.7 * P)),
    (SoftenedReverseKullbackLeibler(), 2 * kl((P + Q) / 2, P)),
    (TotalVariation(), 0.5 * float(np.abs(P - Q).sum())),
    (Alpha(0.5), (float(np.sqrt(P * Q).sum()) - 1) / (0.5 * -0.5)),
    (Alpha(-1.0), float((Q**2 / P).sum() - 1) / 2),
    (Alpha(3.0), float((P**3 / Q**2).sum() - 1) / 6),
    (Alpha(1.0), kl(P, Q)),
    (Alpha(0.0), kl(Q, P)),
    (Tsallis(2.0), float((P**2 / Q).sum()) - 1),
    (Tsallis(0.5), 2 * (1 - float(np.sqrt(P * Q).sum()))),
    (PearsonChiSquare(), float(((P - Q) ** 2 / Q).sum())),
    (NeymanChiSquare(), float(((P - Q) ** 2 / P).sum())),
    (ChiSquareMixture(0.25), float(((P - (0.25 * P + 0.75 * Q)) ** 2 / (0.25 * P + 0.75 * Q)).sum())),
    (SquaredHellinger(), 1 - float(np.sqrt(P * Q).sum())),
    (LeCam(), 0.5 * float(((P - Q) ** 2 / (P + Q)).sum())),
    (
        OwnGenerator(lambda u: (u - 1) ** 2 / u, slope_range=(-math.inf, 1.0), mass_costs=(math.inf, 1.0)),
        float(((P - Q) ** 2 / P).sum()),
    ),
]
ALL = [divergence for divergence, _ in VALUES]
NEVER_INFINITE = (JensenShannon, SkewKullbackLeibler, SkewReverseKullbackLeibler, TotalVariation, ChiSquareMixture)
NEVER_INFINITE += (SquaredHellinger, LeCam)


def named(value: Any) -> str | None:
    return repr(value)[:60] if isinstance(value, FDivergence) else None


def log(p: np.ndarray) -> Tensor:
    return torch.tensor(p).log()


def some(seed: int, rows: int = 50, outcomes: int = 6) -> Tensor:
    logits = 2 * torch.randn(rows, outcomes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(1)


def test_every_divergence_is_among_the_values() -> None:
    assert {type(divergence) for divergence in ALL} == {*DIVERGENCES.values(), OwnGenerator}


@pytest.mark.parametrize(("divergence", "expected"), VALUES, ids=named)
def test_values_and_direction(divergence: FDivergence, expected: float) -> None:
    assert divergence(log(P), log(Q)).item() == pytest.approx(expected, rel=1e-12)
    found = divergence.exact(target_logits=log(P) + 3.0, model_logits=log(Q) - 2.0)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert divergence(log(P).float(), log(Q).float()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_never_negative_and_zero_at_equality(divergence: FDivergence) -> None:
    assert (divergence(some(0), some(1)) > 0).all()
    same = some(0).requires_grad_()
    values = divergence(some(0), same)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad(values.sum(), same)
    # With respect to logits: whatever is left has the form c·p, which a change of normalisation does not see.
    slope = gradient - same.exp() * gradient.sum(1, keepdim=True)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_the_terms_are_those_of_the_generator(divergence: FDivergence) -> None:
    p, q = some(0), some(1)
    expected = (q.exp() * divergence.f((p - q).exp())).sum(1)
    torch.testing.assert_close(divergence(p, q), expected)


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_convex_in_both_distributions(divergence: FDivergence) -> None:
    p, q, other_p, other_q = some(0).exp(), some(1).exp(), some(2).exp(), some(3).exp()
    ends = divergence(p.log(), q.log()), divergence(other_p.log(), other_q.log())
    for share in (0.1, 0.5, 0.8):
        between = divergence((share * p + (1 - share) * other_p).log(), (share * q + (1 - share) * other_q).log())
        assert (between <= share * ends[0] + (1 - share) * ends[1] + 1e-12).all()


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_joining_outcomes_makes_none_larger(divergence: FDivergence) -> None:
    p, q = some(0), some(1)

    def joined(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, :3], rows[:, 3:].logsumexp(1, keepdim=True)], dim=1)

    assert (divergence(joined(p), joined(q)) <= divergence(p, q) + 1e-12).all()


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_derivatives_are_those_of_the_generator(divergence: FDivergence) -> None:
    u = torch.tensor([0.01, 0.3, 0.999, 1.5, 20.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(divergence.f(u).sum(), u, create_graph=not isinstance(divergence, TotalVariation))
    torch.testing.assert_close(divergence.derivative(u.detach()), slope.detach())
    if not isinstance(divergence, TotalVariation):
        (curvature,) = torch.autograd.grad(slope.sum(), u)
        torch.testing.assert_close(divergence.second_derivative(u.detach()), curvature)
    else:
        assert not divergence.second_derivative(u.detach()).any()
    assert divergence.f(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_limits_and_slopes_are_those_of_the_generator(divergence: FDivergence) -> None:
    tiny, huge = torch.tensor([1e-12], dtype=torch.float64), torch.tensor([1e12], dtype=torch.float64)
    for expected, found in (
        (divergence.limits[0], divergence.f(tiny)),
        (divergence.limits[1], divergence.f(huge) / huge),
        (divergence.slopes[0], divergence.derivative(tiny)),
        (divergence.slopes[1], divergence.derivative(huge)),
    ):
        if math.isinf(expected):
            assert found.item() * math.copysign(1, expected) > 5
        else:
            assert found.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("divergence", [each for each in ALL if each.is_invertible], ids=named)
def test_inverse_and_conjugate(divergence: FDivergence) -> None:
    u = torch.tensor([0.02, 0.5, 1.0, 3.0, 15.0], dtype=torch.float64)
    slopes = divergence.derivative(u)
    torch.testing.assert_close(divergence.inverse_derivative(slopes), u, rtol=1e-9, atol=0)
    # Fenchel's equality where t is the slope, his inequality elsewhere.
    torch.testing.assert_close(divergence.conjugate(slopes), u * slopes - divergence.f(u), rtol=1e-8, atol=1e-9)
    bounds = divergence.conjugate(slopes[:, None]) + divergence.f(u[None]) - slopes[:, None] * u[None]
    assert (bounds >= -1e-9).all()


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_slopes_outside_the_range(divergence: FDivergence) -> None:
    low, high = divergence.slopes
    for t, expected in ((high + 1, math.inf), (low - 1, -divergence.limits[0])):
        if math.isfinite(t):
            assert divergence.conjugate(torch.tensor([t], dtype=torch.float64)).item() == pytest.approx(expected)


def test_total_variation_has_no_inverse() -> None:
    with pytest.raises(ValueError, match="`total_variation` has a derivative without an inverse"):
        TotalVariation().inverse_derivative(torch.zeros(1))


@pytest.mark.parametrize("divergence", ALL, ids=named)
def test_gradients_are_those_of_the_values(divergence: FDivergence) -> None:
    target, logits = some(0, rows=3), some(1, rows=3).requires_grad_()
    torch.autograd.gradcheck(lambda z: divergence.exact(target_logits=target, model_logits=z), logits)


@pytest.mark.parametrize("divergence", ALL, ids=named)
@pytest.mark.parametrize("scale", [1e4, torch.inf])
def test_extreme_logits_and_zero_probabilities(divergence: FDivergence, scale: float) -> None:
    """A value is finite or infinite, never a NaN; and where it is finite so is the gradient."""
    rows = list(itertools.product((0.0, -scale), (0.0, -scale, 1.0)))[:-1]
    patterns = torch.tensor([[*row, 0.5] for row in rows])
    for target, model in itertools.product(patterns, patterns):
        logits = model.clone().requires_grad_()
        value = divergence.exact(target_logits=target, model_logits=logits)
        assert not value.isnan()
        assert value >= -1e-6
        if value.isfinite():
            (gradient,) = torch.autograd.grad(value, logits)
            assert gradient.isfinite().all(), (target, model)
        else:
            assert not isinstance(divergence, NEVER_INFINITE)


def test_infinite_exactly_where_a_distribution_rules_out_what_costs() -> None:
    without = torch.tensor([0.0, 0.0, -torch.inf]).log_softmax(0)
    whole = torch.zeros(3).log_softmax(0)
    for divergence in ALL:
        model_lacks, target_lacks = divergence(whole, without), divergence(without, whole)
        assert model_lacks.isinf() == math.isinf(divergence.limits[1]), divergence
        assert target_lacks.isinf() == math.isinf(divergence.limits[0]), divergence


def test_limits_between_members_of_families() -> None:
    p, q = some(0), some(1)
    forward, reverse = KullbackLeibler()(p, q), ReverseKullbackLeibler()(p, q)
    near = 1e-6
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(Alpha(1 - 2e-4)(p, q), forward, **close)
    torch.testing.assert_close(Alpha(2e-4)(p, q), reverse, **close)
    torch.testing.assert_close(JensenShannon(near)(p, q) / near, forward, **close)
    torch.testing.assert_close(JensenShannon(1 - near)(p, q) / near, reverse, **close)
    torch.testing.assert_close(SkewKullbackLeibler(1e-9)(p, q), forward, **close)
    torch.testing.assert_close(SkewReverseKullbackLeibler(1e-9)(p, q), reverse, **close)
    torch.testing.assert_close(ChiSquareMixture(near)(p, q), PearsonChiSquare()(p, q), rtol=0.02, atol=0.0)
    torch.testing.assert_close(Alpha(2.0)(p, q), PearsonChiSquare()(p, q) / 2)
    torch.testing.assert_close(Alpha(-1.0)(p, q), NeymanChiSquare()(p, q) / 2)
    torch.testing.assert_close(Alpha(0.5)(p, q), 4 * SquaredHellinger()(p, q))
    torch.testing.assert_close(ChiSquareMixture(0.5)(p, q), LeCam()(p, q))
    torch.testing.assert_close(Tsallis(1.0)(p, q), forward)


def test_agreement_with_torch() -> None:
    p, q = some(0), some(1).requires_grad_()
    ours = KullbackLeibler()(p, q).sum()
    theirs = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value, q)[0] for value in (ours, theirs)))


def test_agreement_with_trl() -> None:
    """Its generalised Jensen-Shannon loss of a student (GKD), where beta weights the teacher."""
    trainer = pytest.importorskip("trl.experimental.gkd").GKDTrainer
    student, teacher = some(0, 7)[None].float().requires_grad_(), some(1, 7)[None].float()
    for beta, ours in (
        (0.3, JensenShannon(0.3)),
        (0.0, KullbackLeibler()),
        (1.0, ReverseKullbackLeibler()),
    ):
        theirs = trainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="sum")
        own = ours.exact(target_logits=teacher, model_logits=student).sum()
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)
        gradients = [torch.autograd.grad(value, student)[0] for value in (own, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda u: (u - 1) ** 2 + 1, "must be 0 at 1; got 1"),
        (lambda u: -((u - 1) ** 2), "must be convex"),
        (lambda u: torch.sin(u) - math.sin(1), "must be convex"),
    ],
)
def test_functions_that_make_no_divergence_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnGenerator(function, slope_range=(0.0, 1.0), mass_costs=(0.0, 0.0))


@pytest.mark.parametrize("kind", [SkewKullbackLeibler, SkewReverseKullbackLeibler, JensenShannon, ChiSquareMixture])
@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_shares_at_the_ends_are_refused(kind: type[FDivergence], share: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
        kind(share)


def test_shapes_and_temperatures() -> None:
    with pytest.raises(ValueError, match="must have the same shape"):
        KullbackLeibler()(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="`temperature` must be greater than 0"):
        KullbackLeibler().exact(target_logits=torch.zeros(3), model_logits=torch.zeros(3), temperature=0.0)
    p, q = some(0), some(1)
    warm = KullbackLeibler().exact(target_logits=p, model_logits=q, temperature=2.0)
    torch.testing.assert_close(warm, KullbackLeibler()((p / 2).log_softmax(1), (q / 2).log_softmax(1)))
