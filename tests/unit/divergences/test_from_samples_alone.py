"""Ratios of neighbours, and critics: against closed forms of normal laws and small linear programmes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from sharpseq.divergences import (
    KL,
    Renyi,
    ReverseKL,
    critic_loss,
    mutual_information,
    nearest_neighbour_divergence,
    neighbour_ratios,
    wasserstein_dependency,
)


def normal(num: int, *, size: int = 1, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, size, generator=generator, dtype=torch.float64)


def test_ratios_are_counted_among_the_others() -> None:
    target, model = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.4], [10.5]])
    # Of 0.4: nearest 0, 1; of 10.5: nearest 10, 1. The sample itself never counts.
    assert neighbour_ratios(target=target, model=model, k=2).tolist() == pytest.approx([2 / 3 * 2, 2 / 3 * 2])
    # All four others: three of the target, one of the model.
    assert neighbour_ratios(target=target, model=model, k=4).tolist() == pytest.approx([2 / 3 * 3 / 2] * 2)


@pytest.mark.parametrize("k", [3, 5])
def test_the_mean_ratio_of_one_law_is_that_of_a_fair_coin(k: int) -> None:
    """n_t is then Binomial(k, ½), and E[n_t/(k − n_t + 1)] = 1 − 2⁻ᵏ."""
    exact = sum(math.comb(k, n) / 2**k * n / (k - n + 1) for n in range(k + 1))
    assert exact == pytest.approx(1 - 2**-k)
    ratios = neighbour_ratios(target=normal(4000, seed=0), model=normal(4000, seed=1), k=k)
    assert float(ratios.mean()) == pytest.approx(exact, abs=0.05)


def test_normal_laws_of_one_dimension() -> None:
    """N(0, 1) against N(½, 1.2²)."""
    target, model = normal(3000, seed=0), 1.2 * normal(3000, seed=1) + 0.5
    s = 1.2**2
    kl = 0.5 * (math.log(s) + (1 + 0.25) / s - 1)
    reverse = 0.5 * (-math.log(s) + s + 0.25 - 1)
    half = -2 * (0.5 * math.log(2 * 1.2 / (1 + s)) - 0.25 * 0.25 / (1 + s))
    for divergence, exact in ((KL(), kl), (ReverseKL(), reverse), (None, half), (Renyi(0.5), half)):
        found = nearest_neighbour_divergence(target=target, model=model, divergence=divergence, k=200)
        assert float(found) == pytest.approx(exact, abs=0.025)


def test_two_samples_of_one_law_give_two_over_k() -> None:
    target, model = normal(3000, seed=0), normal(3000, seed=1)
    for k, expected in ((None, 2 / 55), (200, 2 / 200)):
        found = nearest_neighbour_divergence(target=target, model=model, divergence=KL(), k=k)
        assert float(found) == pytest.approx(expected, rel=0.2)


def test_sets_that_share_nothing_are_infinitely_far_apart() -> None:
    assert nearest_neighbour_divergence(target=normal(50, seed=0), model=normal(50, seed=1) + 100) == math.inf


def test_many_dimensions_are_projected_or_refused() -> None:
    target, model = normal(400, size=20, seed=0), normal(400, size=20, seed=1)
    model[:, 4] += 4
    assert float(nearest_neighbour_divergence(target=target, model=model)) > 1
    with pytest.raises(ValueError, match="need 1 to 3 dimensions, and 20 would be left; set `components`"):
        nearest_neighbour_divergence(target=target, model=model, components=None)
    with pytest.raises(ValueError, match=r"`k` must be in \[1, 799\]"):
        neighbour_ratios(target=target, model=model, k=800)


def scores_of_normal_pairs(num: int, information: float, *, size: int = 20, seed: int = 0) -> Tensor:
    """The logarithm of the true ratio for correlated normal pairs, whose mutual information is known."""
    rho = math.sqrt(1 - math.exp(-2 * information / size))
    x, noise = normal(num, size=size, seed=seed), normal(num, size=size, seed=seed + 1000)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)
    exponent = (2 * rho * x @ y.T - rho**2 * squares) / (2 * (1 - rho**2))
    return exponent - size / 2 * math.log(1 - rho**2)


def test_estimates_of_the_best_critic() -> None:
    """Means of 40 batches of 128 pairs: near 2 nats all agree, at 10 nats InfoNCE stops at log n."""
    for information, estimator, shift, expected, tolerance in (
        (2.0, "donsker_varadhan", 0.0, 2.0, 0.1),
        (2.0, "nwj", 1.0, 2.0, 0.1),
        (2.0, "infonce", 0.0, 2.0, 0.15),
        (2.0, "smile", 0.0, 2.03, 0.1),
        (10.0, "infonce", 0.0, math.log(128), 0.1),
    ):
        values = [
            float(mutual_information(scores_of_normal_pairs(128, information, seed=seed) + shift, estimator=estimator))  # type: ignore[arg-type]
            for seed in range(40)
        ]
        assert np.mean(values) == pytest.approx(expected, abs=tolerance), estimator


def test_estimates_follow_their_formulas() -> None:
    scores = normal(5, size=5, seed=3)
    apart = [float(scores[i, j]) for i in range(5) for j in range(5) if i != j]
    paired = np.mean([float(scores[i, i]) for i in range(5)])
    expected = {
        "donsker_varadhan": paired - math.log(np.mean(np.exp(apart))),
        "smile": paired - math.log(np.mean(np.exp(np.clip(apart, -0.5, 0.5)))),
        "nwj": 1 + paired - 1 - np.mean(np.exp(np.array(apart) - 1)),
        "infonce": np.mean([math.log(math.exp(scores[i, i]) / np.mean(np.exp(scores[i].numpy()))) for i in range(5)]),
    }
    for estimator, value in expected.items():
        found = mutual_information(scores, estimator=estimator, clip=0.5)  # type: ignore[arg-type]
        assert float(found) == pytest.approx(value), estimator
    loss = float(critic_loss(scores))
    assert loss == pytest.approx(
        np.mean([math.log1p(math.exp(-scores[i, i])) for i in range(5)]) + np.mean(np.log1p(np.exp(apart)))
    )
    assert float(critic_loss(scores, kind="infonce")) == pytest.approx(-expected["infonce"])


def test_smile_has_no_gradient_and_the_loss_of_critics_has() -> None:
    scores = normal(6, size=6, seed=3).requires_grad_()
    assert not mutual_information(scores).requires_grad
    for kind in ("jensen_shannon", "infonce"):
        (gradient,) = torch.autograd.grad(critic_loss(scores, kind=kind), scores)  # type: ignore[arg-type]
        assert (gradient.diagonal() < 0).all()


def test_transport_dependency_of_a_copy_of_symbols() -> None:
    """y = x uniform on three symbols: a linear programme gives 2/3, and the critic −[x ≠ y] attains it."""
    num = 3
    pairs = [(i, j) for i in range(num) for j in range(num)]
    costs = np.array([[float(a[0] != b[0]) + float(a[1] != b[1]) for b in pairs] for a in pairs])
    joint = np.array([(i == j) / num for i, j in pairs])
    constraints = [np.kron(np.eye(9)[i], np.ones(9)) for i in range(9)]
    constraints += [np.kron(np.ones(9), np.eye(9)[j]) for j in range(9)]
    solved = linprog(costs.flatten(), A_eq=constraints, b_eq=[*joint, *np.full(9, 1 / 9)])
    assert solved.fun == pytest.approx(1 - 1 / num)

    corners = torch.eye(num, dtype=torch.float64) / math.sqrt(2)
    x = corners.repeat(400, 1)[torch.randperm(1200, generator=torch.Generator().manual_seed(0))]

    def critic(first: Tensor, second: Tensor) -> Tensor:
        return -((first - second) ** 2).sum(-1)  # −1 where the symbols differ

    step = wasserstein_dependency(critic, x, x, penalty=0.0, generator=torch.Generator().manual_seed(0))
    assert float(step.value) == pytest.approx(1 - 1 / num, abs=0.06)
    assert float(step.loss.detach()) == pytest.approx(-float(step.value))


def test_the_penalty_holds_the_slope_at_one() -> None:
    x, y = normal(50, size=2, seed=0), normal(50, size=3, seed=1)
    for slope in (1.0, 2.0):
        weight = torch.tensor(slope, dtype=torch.float64, requires_grad=True)
        step = wasserstein_dependency(lambda first, second, w=weight: w * second[:, 0], x, y, penalty=3.0)  # type: ignore[misc]
        assert float(step.value) == pytest.approx(0, abs=1e-12)
        assert float(step.loss.detach()) == pytest.approx(3 * (slope - 1) ** 2)
        (gradient,) = torch.autograd.grad(step.loss, weight)
        assert float(gradient) == pytest.approx(6 * (slope - 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_information(torch.zeros(2, 3)), r"\(n, n\), n at least 2; got \(2, 3\)"),
        (lambda: mutual_information(torch.zeros(1, 1)), r"n at least 2; got \(1, 1\)"),
        (lambda: mutual_information(torch.zeros(2, 2), clip=0.0), "`clip` must be greater than 0; got 0.0"),
        (lambda: mutual_information(torch.zeros(2, 2), estimator="mine"), "`estimator` must be 'smile'"),  # type: ignore[arg-type]
        (lambda: critic_loss(torch.zeros(2, 2), kind="smile"), "`kind` must be 'jensen_shannon'"),  # type: ignore[arg-type]
        (
            lambda: wasserstein_dependency(lambda a, b: a[:, 0], torch.zeros(3, 1), torch.zeros(2, 1)),
            "the same number of vectors, at least 2; got 3 and 2",
        ),
        (
            lambda: wasserstein_dependency(lambda a, b: a[:, 0], torch.zeros(2, 1), torch.zeros(2, 1), penalty=-1.0),
            "`penalty` must be at least 0; got -1.0",
        ),
    ],
)
def test_wrong_input_is_one_clear_line(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
