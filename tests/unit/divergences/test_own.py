"""Divergences of one's own convex function, and errors of generators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from divergence_properties import DIVERGENCE_PROPERTIES
from torch import Tensor

from sharpseq.divergences import (
    KL,
    Alpha,
    FDivergence,
    JensenShannon,
    OwnFDivergence,
    PearsonChi2,
    SquaredHellinger,
    TotalVariation,
)
from sharpseq.divergences.f_divergence import F_PROPERTIES

PAIRS = [
    (OwnFDivergence(lambda u: u * u.log(), limit_at_zero=0.0), KL()),
    (OwnFDivergence(lambda u: (u - 1) ** 2, limit_at_zero=1.0), PearsonChi2()),
    (OwnFDivergence(lambda u: 1 - u.sqrt(), limit_at_zero=1.0, limit_over_u=0.0), SquaredHellinger()),
    (OwnFDivergence(lambda u: 0.5 * (u - 1).abs(), limit_at_zero=0.5, limit_over_u=0.5), TotalVariation()),
    (
        OwnFDivergence(
            lambda u: 0.5 * (u * u.log() - (1 + u) * ((1 + u) / 2).log()),
            limit_at_zero=0.5 * math.log(2),
            limit_over_u=0.5 * math.log(2),
        ),
        JensenShannon(),
    ),
]


@pytest.mark.parametrize(("own", "ours"), PAIRS, ids=lambda each: type(each).__name__)
def test_a_known_function_gives_the_known_divergence(own: FDivergence, ours: FDivergence) -> None:
    torch.manual_seed(0)
    target, model = (torch.randn(6, 9, dtype=torch.float64, requires_grad=True) for _ in range(2))
    values = [each.exact(target_logits=target, model_logits=model) for each in (own, ours)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), (target, model)) for value in values))
    p, q = torch.tensor([0.7, 0.3, 0.0]).log(), torch.tensor([0.4, 0.0, 0.6]).log()
    one_sided = [each.exact(target_logits=p, model_logits=q) for each in (own, ours)]
    torch.testing.assert_close(*one_sided)


@pytest.mark.parametrize("declared", [*sorted(set(F_PROPERTIES) - {"limits_are_prices_of_zeros"}), "inverse_exists"])
def test_it_has_the_properties_of_all_others(declared: str) -> None:
    own = OwnFDivergence(lambda u: u * u.log() - torch.log(u), limit_at_zero=math.inf)
    DIVERGENCE_PROPERTIES[declared](own)


@pytest.mark.parametrize(
    ("convex", "message"),
    [
        (lambda u: u.log(), r"not convex: its slope falls near the ratio 1.05e-06"),
        (lambda u: u**2, r"`convex` must be 0 at 1; got 1 \(subtract it"),
        (lambda u: (u - 1) / (u - 1), "`convex` must be 0 at 1; got nan"),
        (lambda u: (u - 1).sqrt(), "must be finite for every ratio above 0"),
        (lambda u: torch.sin(u - 1), "not convex: its slope falls near the ratio"),
    ],
)
def test_what_is_no_convex_function_is_refused(convex: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnFDivergence(convex)  # type: ignore[arg-type]


def test_extreme_ratios_are_priced_along_a_straight_line() -> None:
    own = OwnFDivergence(lambda u: u * u.log(), limit_at_zero=0.0)
    target = torch.tensor([1e4, 0.0])
    model = torch.tensor([0.0, 1e4]).requires_grad_()
    value = own.exact(target_logits=target, model_logits=model)
    assert value.isfinite()
    assert torch.autograd.grad(value, model)[0].isfinite().all()


def test_the_total_variation_has_no_inverse_and_says_so() -> None:
    with pytest.raises(ValueError, match=r"the total variation has no \(f'\)⁻¹"):
        TotalVariation().inverse_derivative(torch.zeros(1))


def test_a_schedule_has_no_value_before_training() -> None:
    from sharpseq.declarations import Linear

    scheduled = Alpha(Linear(0.0, 1.0))
    with pytest.raises(TypeError, match=r"ask the method for `at\(progress\)` first"):
        scheduled.exact(target_logits=torch.zeros(2), model_logits=torch.zeros(2))
    assert scheduled.at(1.0) == Alpha(1.0)


def test_ranges_are_checked_when_one_is_made() -> None:
    for weight in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"`weight` must be in \(0, 1\); got"):
            JensenShannon(weight)


def test_arguments_have_to_be_named() -> None:
    logits: Tensor = torch.zeros(2)
    with pytest.raises(TypeError, match="positional"):
        KL().exact(logits, logits)  # type: ignore[misc]


def test_an_own_divergence_that_lacks_a_method_says_which_at_once() -> None:
    @dataclass(frozen=True)
    class Unfinished(FDivergence):
        at_zero = 1.0
        slope_at_infinity = math.inf

        def terms(self, log_p: Tensor, log_q: Tensor) -> Tensor:
            return (log_p - log_q).abs()

    with pytest.raises(TypeError, match=r"Unfinished.*p_slopes.*q_slopes.*second_derivative"):
        Unfinished()
