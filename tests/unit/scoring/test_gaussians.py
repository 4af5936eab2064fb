"""Normal distributions against numerical integration and against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sharpseq.scoring import DiagonalGaussian

SHAPE = (2, 3, 4)
PAIRS = [(0.0, 0.0, 0.0, 0.0), (1.5, -0.7, -0.4, 0.3), (-2.0, 0.5, 0.1, -0.6), (0.3, -2.5, 0.2, 1.0)]


def gaussian(seed: int, *, requires_grad: bool = False) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = (torch.randn(SHAPE, dtype=torch.float64, generator=generator) for _ in "ab")
    return DiagonalGaussian(mean.requires_grad_(requires_grad), log_std.requires_grad_(requires_grad))


def scalar(mean: float, log_std: float) -> DiagonalGaussian:
    return DiagonalGaussian(*(torch.tensor([number], dtype=torch.float64) for number in (mean, log_std)))


def reference(ours: DiagonalGaussian) -> torch.distributions.Normal:
    return torch.distributions.Normal(ours.mean, ours.log_std.exp())


def density(grid: Tensor, mean: float, log_std: float) -> Tensor:
    return torch.exp(-(((grid - mean) / math.exp(log_std)) ** 2) / 2) / (math.exp(log_std) * math.sqrt(2 * math.pi))


@pytest.mark.parametrize(("mean", "log_std", "other_mean", "other_log_std"), PAIRS)
def test_the_kl_is_the_integral(mean: float, log_std: float, other_mean: float, other_log_std: float) -> None:
    # Trapezoidal rule: for such an integrand its error falls faster than any power of the step.
    std = math.exp(log_std)
    grid = torch.linspace(mean - 12 * std, mean + 12 * std, 20_001, dtype=torch.float64)
    ratio = (grid - other_mean).square() / (2 * math.exp(2 * other_log_std)) + other_log_std
    ratio = ratio - (grid - mean).square() / (2 * std**2) - log_std
    expected = torch.trapezoid(density(grid, mean, log_std) * ratio, grid).item()
    found = scalar(mean, log_std).kl_divergence(scalar(other_mean, other_log_std)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("mean", "log_std", "other_mean", "other_log_std"), PAIRS)
def test_the_density_is_the_formula_and_integrates_to_one(
    mean: float, log_std: float, other_mean: float, other_log_std: float
) -> None:
    grid = torch.linspace(-80, 80, 80_001, dtype=torch.float64)
    found = scalar(mean, log_std).log_prob(grid).exp()
    torch.testing.assert_close(found, density(grid, mean, log_std), rtol=1e-11, atol=1e-300)
    assert torch.trapezoid(found, grid).item() == pytest.approx(1, abs=1e-12)


def test_every_entry_is_that_of_torch_distributions() -> None:
    first, second, value = gaussian(0), gaussian(1), gaussian(2).mean
    torch.testing.assert_close(first.log_prob(value), reference(first).log_prob(value))
    expected = torch.distributions.kl_divergence(reference(first), reference(second))
    torch.testing.assert_close(first.kl_divergence(second), expected)
    assert (expected > 0).all()
    assert (first.kl_divergence(first) == 0).all()


def test_gradients_are_those_of_torch_distributions() -> None:
    first, second = gaussian(0, requires_grad=True), gaussian(1, requires_grad=True)
    leaves = [first.mean, first.log_std, second.mean, second.log_std]
    mix = gaussian(3).mean
    ours = torch.autograd.grad((mix * first.kl_divergence(second)).sum(), leaves)
    theirs = torch.autograd.grad(
        (mix * torch.distributions.kl_divergence(reference(first), reference(second))).sum(), leaves
    )
    torch.testing.assert_close(ours, theirs)

    value = gaussian(2, requires_grad=True).mean
    ours = torch.autograd.grad((mix * first.log_prob(value)).sum(), [*leaves[:2], value])
    theirs = torch.autograd.grad((mix * reference(first).log_prob(value)).sum(), [*leaves[:2], value])
    torch.testing.assert_close(ours, theirs)


def test_gradients_are_those_of_finite_differences() -> None:
    def kl(*parameters: Tensor) -> Tensor:
        return DiagonalGaussian(*parameters[:2]).kl_divergence(DiagonalGaussian(*parameters[2:]))

    both = [gaussian(seed, requires_grad=True) for seed in (4, 5)]
    assert torch.autograd.gradcheck(kl, [tensor for each in both for tensor in (each.mean, each.log_std)])


def test_samples_have_the_mean_and_the_deviation() -> None:
    one = gaussian(6)
    count = 40_000
    many = DiagonalGaussian(*(tensor.expand(count, *SHAPE) for tensor in (one.mean, one.log_std)))
    samples = many.sample(generator=torch.Generator().manual_seed(0))
    standardized = (samples - one.mean) / one.log_std.exp()
    # 24 numbers each: 5 standard errors, of the mean 1/√n, of the variance √(2/n), of the fourth moment √(96/n).
    assert standardized.mean(0).abs().max() < 5 / math.sqrt(count)
    assert (standardized.square().mean(0) - 1).abs().max() < 5 * math.sqrt(2 / count)
    assert (standardized.pow(4).mean(0) - 3).abs().max() < 5 * math.sqrt(96 / count)
    correlation = torch.corrcoef(standardized.flatten(1).T)
    assert (correlation - torch.eye(24, dtype=torch.float64)).abs().max() < 5.5 / math.sqrt(count)


def test_a_sample_is_differentiable_and_follows_its_generator() -> None:
    one = gaussian(7, requires_grad=True)
    sample = one.sample(generator=torch.Generator().manual_seed(3))
    assert torch.equal(sample, one.sample(generator=torch.Generator().manual_seed(3)))
    assert (sample != one.sample(generator=torch.Generator().manual_seed(4))).all()
    noise = ((sample - one.mean) / one.log_std.exp()).detach()
    of_mean, of_log_std = torch.autograd.grad(sample.sum(), [one.mean, one.log_std])
    torch.testing.assert_close(of_mean, torch.ones(SHAPE, dtype=torch.float64))
    torch.testing.assert_close(of_log_std, one.log_std.exp() * noise)


def test_without_a_generator_it_is_the_global_one_that_is_drawn_from() -> None:
    torch.manual_seed(11)
    first = gaussian(7).sample()
    torch.manual_seed(11)
    assert torch.equal(gaussian(7).sample(), first)
    assert (gaussian(7).sample() != first).all()


def test_rows_are_repeated_next_to_each_other() -> None:
    one = gaussian(8)
    repeated = one.repeat_interleave(3)
    for ours, theirs in ((repeated.mean, one.mean), (repeated.log_std, one.log_std)):
        assert torch.equal(ours, theirs[[0, 0, 0, 1, 1, 1]])


@pytest.mark.parametrize("log_std", [-80.0, 80.0])
def test_extreme_deviations_stay_finite_in_float32(log_std: float) -> None:
    """A variance would leave float32 at e^±44; the density is written with deviations alone."""
    extreme = DiagonalGaussian(torch.zeros(1), torch.tensor([log_std]))
    assert extreme.log_prob(torch.zeros(1)).item() == pytest.approx(-log_std - 0.5 * math.log(2 * math.pi))
    assert extreme.kl_divergence(extreme).item() == 0
