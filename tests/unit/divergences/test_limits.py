"""Limits between members of families, and what happens near them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sharpseq.divergences import (
    KL,
    Alpha,
    AmariAlpha,
    Chi2Mixture,
    Divergence,
    JensenShannon,
    LeCam,
    NeymanChi2,
    PearsonChi2,
    Renyi,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SquaredHellinger,
    Tsallis,
)

TARGET = torch.tensor([[1.0, 0.3, -2.0, 0.0], [0.0, 2.0, 1.0, -1.0]], dtype=torch.float64)
MODEL = torch.tensor([[-0.5, 1.0, 0.0, 0.7], [1.0, 1.0, -1.0, 0.0]], dtype=torch.float64)


def of(divergence: Divergence, target: Tensor = TARGET, model: Tensor = MODEL) -> Tensor:
    return divergence.exact(target_logits=target, model_logits=model)


@pytest.mark.parametrize("step", [1e-2, -1e-2, 1e-5, -1e-5, 1e-9, -1e-9])
@pytest.mark.parametrize(
    ("family", "limit"),
    [
        (lambda step: Alpha(1 + step), KL()),
        (lambda step: Alpha(step), ReverseKL()),
        (lambda step: AmariAlpha(-1 + step), KL()),
        (lambda step: Tsallis(1 + step), KL()),
        (lambda step: Renyi(1 + step), KL()),
        (lambda step: Alpha(0.5 + step), Alpha(0.5)),
        (lambda step: SkewKL(abs(step)), KL()),
        (lambda step: SkewReverseKL(abs(step)), ReverseKL()),
        (lambda step: Chi2Mixture(abs(step)), PearsonChi2()),
    ],
    ids=["alpha 1", "alpha 0", "amari -1", "tsallis 1", "renyi 1", "alpha ½", "skew 0", "skew reverse 0", "mixture 0"],
)
def test_a_member_near_a_limit_is_near_it_without_loss_of_digits(
    family: Callable[[float], Divergence], limit: Divergence, step: float
) -> None:
    model = MODEL.clone().requires_grad_()
    values = of(family(step), model=model), of(limit, model=model)
    assert (values[0] - values[1]).abs().max() < 40 * abs(step) + 1e-13
    slopes = [torch.autograd.grad(value.sum(), model)[0] for value in values]
    assert (slopes[0] - slopes[1]).abs().max() < 40 * abs(step) + 1e-13


def test_jensen_shannon_over_its_weight_tends_to_both_kl() -> None:
    weight = 1e-7
    torch.testing.assert_close(of(JensenShannon(weight)) / weight, of(KL()), rtol=1e-5, atol=0)
    torch.testing.assert_close(of(JensenShannon(1 - weight)) / weight, of(ReverseKL()), rtol=1e-5, atol=0)


def test_the_largest_jensen_shannon_is_the_entropy_of_its_weights() -> None:
    apart = torch.tensor([0.0, -math.inf]), torch.tensor([-math.inf, 0.0])
    for weight in (0.1, 0.5, 0.8):
        entropy = -weight * math.log(weight) - (1 - weight) * math.log(1 - weight)
        assert float(of(JensenShannon(weight), *apart)) == pytest.approx(entropy)


def test_the_rescaled_chi2_to_a_mixture_tends_to_neyman() -> None:
    weight = 1 - 1e-7
    torch.testing.assert_close(of(Chi2Mixture(weight)) / (1 - weight) ** 2, of(NeymanChi2()), rtol=1e-5, atol=0)


def test_members_of_the_power_family_are_each_other() -> None:
    torch.testing.assert_close(of(Alpha(2.0)) * 2, of(PearsonChi2()))
    torch.testing.assert_close(of(Alpha(-1.0)) * 2, of(NeymanChi2()))
    torch.testing.assert_close(of(Alpha(0.5)) / 4, of(SquaredHellinger()))
    torch.testing.assert_close(of(Alpha(0.3)) * 0.3, of(Tsallis(0.3)))
    torch.testing.assert_close(of(Alpha(0.3)), of(AmariAlpha(0.4)))
    torch.testing.assert_close(of(Chi2Mixture(0.5)), of(LeCam()))


def test_exchanging_the_sides_of_alpha_is_one_minus_alpha() -> None:
    for alpha in (-0.7, 0.2, 1.0, 2.5):
        torch.testing.assert_close(of(Alpha(alpha)), of(Alpha(1 - alpha), MODEL, TARGET))


def test_renyi_rises_with_its_order_to_the_largest_ratio() -> None:
    values = torch.stack([of(Renyi(alpha)) for alpha in (0.1, 0.5, 0.99, 1.0, 1.01, 2.0, 10.0, 1000.0)])
    assert (values.diff(dim=0) > 0).all()
    largest = (TARGET.log_softmax(-1) - MODEL.log_softmax(-1)).amax(-1)
    torch.testing.assert_close(values[-1], largest, rtol=5e-3, atol=0)
    torch.testing.assert_close(of(Renyi(2.0)), torch.log1p(of(PearsonChi2())))


def test_float32_keeps_digits_near_a_pole() -> None:
    exact = of(Alpha(1.0001))
    rounded = of(Alpha(1.0001), TARGET.float(), MODEL.float())
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-6, atol=0)


def test_tsallis_follows_its_definition_by_the_q_logarithm() -> None:
    p, m = TARGET.softmax(-1), MODEL.softmax(-1)
    for q in (0.4, 2.0, 3.0):
        minus_log_q = -(((m / p) ** (1 - q) - 1) / (1 - q))
        torch.testing.assert_close(of(Tsallis(q)), (p * minus_log_q).sum(-1))
