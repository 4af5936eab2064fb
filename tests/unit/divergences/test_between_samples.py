"""Divergences between sets of vectors against closed forms, linear programmes and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from scipy.stats import wasserstein_distance

from sharpseq.divergences import (
    CauchySchwarz,
    MaximumMeanDiscrepancy,
    SinkhornDivergence,
    SlicedWasserstein,
    entropic_transport,
)


def sets(num: int = 40, other: int = 40, size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(num, size, dtype=torch.float64), 0.5 * torch.randn(other, size, dtype=torch.float64) + 1


def test_discrepancy_is_the_sum_over_pairs() -> None:
    x, y = sets(7, 5)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * 1.3**2))

    between = np.mean([kernel(a, b) for a in x for b in y])
    for has_diagonals in (True, False):
        within = [
            np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if has_diagonals or i != j])
            for z in (x, y)
        ]
        value = MaximumMeanDiscrepancy(1.3, has_diagonals).between_samples(target=x, model=y)
        assert float(value) == pytest.approx(sum(within) - 2 * between)
        cauchy_schwarz = CauchySchwarz().between_samples(target=x, model=y, width=1.3, has_diagonals=has_diagonals)
        assert float(cauchy_schwarz) == pytest.approx(np.log(within).sum() - 2 * np.log(between))


def test_without_diagonals_the_discrepancy_has_no_bias() -> None:
    torch.manual_seed(0)
    values = torch.tensor(
        [
            [
                float(MaximumMeanDiscrepancy(1.0, kept).between_samples(target=pair[0], model=pair[1]))
                for kept in (True, False)
            ]
            for pair in torch.randn(300, 2, 10, 1)
        ]
    )
    error = float(values[:, 1].std()) / 300**0.5
    assert abs(float(values[:, 1].mean())) < 4 * error
    # (1/M + 1/N)(1 − E k), E k = 1/√3 for two standard normal samples and a width of 1.
    assert float(values[:, 0].mean()) == pytest.approx(0.2 * (1 - 1 / math.sqrt(3)), abs=0.02)


def test_cauchy_schwarz_of_normal_laws_with_the_variance_of_the_kernel_added() -> None:
    """Closed form for N(0, 1) and N(1.5, ½) with variances raised by σ²/2: log of overlaps of normal densities."""
    torch.manual_seed(0)
    x, y = torch.randn(1500, 1, dtype=torch.float64), 0.5**0.5 * torch.randn(1500, 1, dtype=torch.float64) + 1.5
    width = 0.5
    a, b = 1 + width**2 / 2, 0.5 + width**2 / 2

    def overlap(shift: float, variance: float) -> float:
        return -(shift**2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)

    closed = overlap(0, 2 * a) + overlap(0, 2 * b) - 2 * overlap(1.5, a + b)
    found = CauchySchwarz().between_samples(target=x, model=y, width=width, has_diagonals=False)
    assert float(found) == pytest.approx(closed, rel=0.05)


def test_transport_with_little_entropy_is_the_best_assignment() -> None:
    x, y = sets()
    costs = torch.cdist(x, y) ** 2
    rows, columns = linear_sum_assignment(costs.numpy())
    best = float(costs.numpy()[rows, columns].mean())
    moved = entropic_transport(costs, epsilon=0.005, tolerance=1e-3)
    assert float(moved.value) == pytest.approx(best, rel=5e-3)
    assert float(moved.value) >= best - 1e-3
    assert moved.error < 1e-3


def test_transport_solves_its_problem_and_has_the_gradient_of_the_plan() -> None:
    x, y = sets(6, 4)
    costs = (torch.cdist(x, y) ** 2).requires_grad_()
    epsilon = 0.7
    moved = entropic_transport(costs, epsilon=epsilon, tolerance=1e-12)
    torch.testing.assert_close(moved.plan.sum(1), torch.full((6,), 1 / 6, dtype=torch.float64))
    torch.testing.assert_close(moved.plan.sum(0), torch.full((4,), 1 / 4, dtype=torch.float64))
    relative = (moved.plan * (moved.plan * 24).log()).sum()
    torch.testing.assert_close(moved.value, (moved.plan * costs).sum() + epsilon * relative)
    # By NumPy, plainly, on other potentials.
    potential = np.zeros(4)
    fixed = costs.detach().numpy()
    for _ in range(2000):
        other = -epsilon * logsumexp((potential - fixed) / epsilon, axis=1, b=1 / 4)
        potential = -epsilon * logsumexp((other[:, None] - fixed) / epsilon, axis=0, b=1 / 6)
    assert float(moved.value.detach()) == pytest.approx(other.mean() + potential.mean(), rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda given: entropic_transport(given, epsilon=epsilon, tolerance=1e-13).value, costs
    )


def test_a_transport_that_is_stopped_early_says_so_with_a_lower_bound() -> None:
    x, y = sets(15, 15)
    costs = torch.cdist(x, y) ** 2
    full = entropic_transport(costs, epsilon=0.05, tolerance=1e-6)
    early = entropic_transport(costs, epsilon=0.05, max_iterations=2)
    assert early.error > 1e-2
    assert full.error < 1e-3
    assert float(early.value) < float(full.value)


def test_sinkhorn_goes_from_transport_to_the_distance_of_means_and_the_energy_distance() -> None:
    x, y = sets()
    means = ((x.mean(0) - y.mean(0)) ** 2).sum()
    torch.testing.assert_close(
        SinkhornDivergence(epsilon=1e4).between_samples(target=x, model=y), means, rtol=1e-3, atol=0
    )
    energy = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
    torch.testing.assert_close(
        SinkhornDivergence(epsilon=1e4, cost="distance").between_samples(target=x, model=y),
        energy / 2,
        rtol=1e-3,
        atol=0,
    )


def test_sinkhorn_of_a_shift_is_its_square_at_every_entropy() -> None:
    x, _ = sets()
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for epsilon in (0.05, 1.0, 50.0):
        value = SinkhornDivergence(epsilon=epsilon).between_samples(target=x, model=x + shift)
        assert float(value) == pytest.approx(5.25, rel=1e-3)


@pytest.mark.parametrize(("num", "other"), [(40, 40), (12, 30), (7, 3)])
def test_sliced_wasserstein_on_a_line_is_that_of_scipy(num: int, other: int) -> None:
    x, y = sets(num, other, size=1)
    value = SlicedWasserstein(num_directions=3, power=1.0).between_samples(target=x, model=y)
    assert float(value) == pytest.approx(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()))


def test_sliced_wasserstein_of_a_shift() -> None:
    x, _ = sets(size=10)
    shift = torch.full((10,), 0.2, dtype=torch.float64)
    value = SlicedWasserstein(num_directions=20_000).between_samples(target=x, model=x + shift)
    assert float(value) ** 2 == pytest.approx(0.4 / 10, rel=0.03)


def test_what_no_width_can_be_read_off_is_said() -> None:
    with pytest.raises(ValueError, match="more than half of the samples are the same vector"):
        MaximumMeanDiscrepancy().between_samples(target=torch.ones(4, 2), model=torch.ones(4, 2))


@pytest.mark.parametrize(
    ("target", "model", "message"),
    [
        ((3, 2), (3, 4), r"\(M, D\) and \(N, D\); got \(3, 2\) for the target and \(3, 4\) for the model"),
        ((0, 2), (3, 2), "samples of the target or of the model are empty"),
    ],
)
def test_wrong_sets_are_one_clear_line(target: tuple[int, int], model: tuple[int, int], message: str) -> None:
    for divergence in (MaximumMeanDiscrepancy(), SinkhornDivergence(), SlicedWasserstein(), CauchySchwarz()):
        with pytest.raises(ValueError, match=message):
            divergence.between_samples(target=torch.zeros(target), model=torch.zeros(model))


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="each set needs two samples at least"):
        MaximumMeanDiscrepancy(1.0, False).between_samples(target=torch.zeros(1, 2), model=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="`epsilon` must be greater than 0; got 0"):
        entropic_transport(torch.zeros(2, 2), epsilon=0)
    with pytest.raises(ValueError, match="`costs` must be finite numbers of shape"):
        entropic_transport(torch.full((2, 2), math.inf), epsilon=1.0)
