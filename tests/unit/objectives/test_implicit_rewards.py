"""The parts of f-SFT against symbolic derivatives and a numeric conjugate, and who is pulled to the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from objective_properties import OBJECTIVE_PROPERTIES
from scipy.optimize import minimize, minimize_scalar

from sharpseq.objectives.implicit_rewards import IMPLICIT_REWARDS, UTILITIES
from sharpseq.scoring import PositionScores, ScoreRequest, SequenceScores, TokenScores, score_logits
from sharpseq.training import FSft, FSftBregman

U = sympy.symbols("u", positive=True)
GENERATORS = {
    "kl": U * sympy.log(U) - U + 1,
    "pearson": (U - 1) ** 2,
    "hellinger": (sympy.sqrt(U) - 1) ** 2,
    "jensen_shannon": U * sympy.log(U) - (U + 1) * sympy.log((U + 1) / 2),
}
REAL = [name for name in UTILITIES if name != "likelihood"]
RATIOS = np.array([1e-6, 0.1, 0.7, 1.0, 1.4, 9.0, 1e5])


def at(function: Callable[[torch.Tensor], torch.Tensor], values: np.ndarray) -> np.ndarray:
    return function(torch.tensor(values, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("name", GENERATORS)
def test_rewards_are_derivatives_of_f(name: str) -> None:
    f, parts = GENERATORS[name], IMPLICIT_REWARDS[name]
    first, second = sympy.diff(f, U), sympy.diff(f, U, 2)
    for part, formula in (
        (parts.of_target, first),
        (parts.weight, U * second),
        (parts.of_reference, U * first - f),
        (parts.reference_slope, U**2 * second),
    ):
        expected = [float(formula.subs(U, ratio).evalf(30)) for ratio in RATIOS]
        np.testing.assert_allclose(at(part, np.log(RATIOS)), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", REAL)
def test_a_utility_is_the_conjugate_of_f(name: str) -> None:
    """φ(r) = −f*(−r) with f*(s) = sup_u [s u − f(u)]."""
    convex = sympy.lambdify(U, GENERATORS[name])
    for reward in (-0.45, -0.2, 0.0, 0.3, 1.5):
        found = minimize_scalar(lambda u, r=reward: r * u + convex(u), bounds=(1e-9, 50), method="bounded")
        np.testing.assert_allclose(at(UTILITIES[name], np.array([reward])), [found.fun], atol=1e-7)


@pytest.mark.parametrize("name", UTILITIES)
def test_a_utility_is_concave_and_its_weight_the_slope(name: str) -> None:
    rewards = torch.linspace(-60, 40, 2001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(UTILITIES[name](rewards).sum(), rewards)
    torch.testing.assert_close(UTILITIES[name].weight(rewards.detach()), slopes)
    assert (slopes.diff() <= 0).all()
    torch.testing.assert_close(UTILITIES[name].weight(torch.zeros(1)), torch.ones(1))


# Who is pulled


def distributions() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    return generator.dirichlet(np.full(6, 5.0)), generator.dirichlet(np.full(6, 5.0))


def fit(loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> tuple[torch.Tensor, float]:
    """Return where a loss of free numbers is lowest, and its value there."""
    numbers = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [numbers], lr=0.5, max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(numbers)
        value.backward()
        return value

    optimizer.step(closure)
    return numbers.detach(), loss(numbers).item()


@pytest.mark.parametrize("name", GENERATORS)
def test_the_bregman_form_ends_at_the_demonstrations(name: str) -> None:
    p, q = distributions()
    method, labels = FSftBregman(name), torch.arange(6)[:, None]
    with torch.no_grad():
        reference_logits = torch.tensor(np.log(q)).expand(6, 1, 6)
        reference = score_logits(reference_logits, labels, request=method.request)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        scores = score_logits(logits.expand(6, 1, 6), labels, request=method.statistics(reference))
        return (torch.tensor(p) * method.compare(scores, reference)[0]).sum()

    logits, _ = fit(loss, 6)
    np.testing.assert_allclose(logits.softmax(0), p, atol=1e-5)
    assert np.abs(p - q).max() > 0.1


def divergence(name: str, model: np.ndarray, data: np.ndarray) -> float:
    """D_f(model ‖ data), each from a definition of its own."""
    middle = (model + data) / 2
    return {
        "kl": lambda: float(np.sum(model * np.log(model / data))),
        "pearson": lambda: float(np.sum((model - data) ** 2 / data)),
        "hellinger": lambda: float(2 - 2 * np.sum(np.sqrt(model * data))),
        "jensen_shannon": lambda: float(np.sum(model * np.log(model / middle) + data * np.log(data / middle))),
    }[name]()


@pytest.mark.parametrize("beta", [0.2, 1.0])
@pytest.mark.parametrize("name", REAL)
def test_with_an_offset_the_minimum_lies_between_data_and_reference(name: str, beta: float) -> None:
    """max over π and V of E_p φ(β log u + V) − V is the minimum of D_f(π ‖ p) + β KL(π ‖ π_ref)."""
    p, q = distributions()

    def loss(numbers: torch.Tensor) -> torch.Tensor:
        log_ratio = numbers[:6].log_softmax(0) - torch.tensor(np.log(q))
        return -(torch.tensor(p) * UTILITIES[name](beta * log_ratio + numbers[6])).sum() + numbers[6]

    numbers, value = fit(loss, 7)

    def primal(logits: np.ndarray) -> float:
        model = np.exp(logits - np.logaddexp.reduce(logits))
        return divergence(name, model, p) + beta * float(np.sum(model * np.log(model / q)))

    found = minimize(primal, np.log(p), method="BFGS", options={"gtol": 1e-9})
    model = numbers[:6].softmax(0).numpy()
    np.testing.assert_allclose(-value, found.fun, rtol=1e-6)
    np.testing.assert_allclose(model, np.exp(found.x - np.logaddexp.reduce(found.x)), atol=1e-4)
    for one, other in ((p, q), (q, p)):
        assert 0.01 < np.abs(model - one).max() < np.abs(other - one).max()


def sequence(log_prob: torch.Tensor, num_tokens: int = 4) -> SequenceScores:
    return SequenceScores(log_prob=log_prob, num_tokens=torch.full(log_prob.shape, num_tokens))


def test_a_demonstration_alone_stops_at_a_reward_of_two() -> None:
    log_probs = torch.tensor([-30.0, -20.0, -10.0], dtype=torch.float64, requires_grad=True)
    reference = sequence(torch.full((3,), -40.0, dtype=torch.float64))
    losses, weights = FSft("pearson", beta=0.1).compare(sequence(log_probs), reference)
    (slopes,) = torch.autograd.grad(losses.sum(), log_probs)
    # Rewards of 1, 2 and 3: pushed on, let go, pushed back.
    np.testing.assert_allclose(weights, [0.5, 0.0, -0.5], atol=1e-12)
    np.testing.assert_allclose(slopes * -4, weights, atol=1e-12)
    np.testing.assert_allclose(losses.detach(), [-0.75 / 0.4, -1 / 0.4, -0.75 / 0.4], rtol=1e-12)


def test_the_likelihood_is_maximum_likelihood_less_a_constant() -> None:
    losses, weights = FSft("likelihood", beta=3.0).compare(
        sequence(torch.tensor([-8.0])), sequence(torch.tensor([-2.0]))
    )
    assert losses.tolist() == pytest.approx([1.5])
    assert weights.tolist() == [1.0]


def test_a_target_that_no_model_can_write_is_no_nan() -> None:
    impossible = sequence(torch.tensor([-math.inf]))
    assert FSft().compare(impossible, impossible)[0].tolist() == [math.inf]


# What every objective keeps


class WithReference:
    """A method as an objective, with a reference that gives each token of the vocabulary the same probability."""

    def __init__(self, method: Any) -> None:
        self.method = method

    @property
    def needs(self) -> ScoreRequest:
        everywhere = torch.ones(1, 1000, dtype=torch.bool)
        positions = PositionScores(
            everywhere, hidden_states=torch.zeros(1, 1000, 1), head=lambda rows: rows.expand(-1, 7)
        )
        of_any_batch = SequenceScores(log_prob=torch.zeros(1), num_tokens=torch.ones(1), positions=positions)
        return self.method.statistics(of_any_batch)

    def __call__(self, scores: SequenceScores) -> torch.Tensor:
        tokens = scores.token_scores()
        log_probs = torch.full_like(tokens.log_probs, -1.3).masked_fill(~tokens.mask, 0.0)
        losses: torch.Tensor = self.method.compare(scores, TokenScores(log_probs, tokens.mask).to_sequences())[0]
        return losses


EVERY = ("loss_per_sequence_in_the_dtype_of_the_scores", "finite_at_extremes", "batch_equals_singles", "gradcheck")
FROM_LOGITS = ("ignores_padding", "empty_sequence_is_a_constant")


@pytest.mark.parametrize("name", UTILITIES)
@pytest.mark.parametrize("holds", [*EVERY, *FROM_LOGITS])
def test_the_form_with_a_pull_keeps_what_objectives_keep(holds: str, name: str) -> None:
    OBJECTIVE_PROPERTIES[holds](WithReference(FSft(name)))


@pytest.mark.parametrize("name", [name for name in UTILITIES if name != "pearson"])
def test_it_falls_as_the_probability_rises(name: str) -> None:
    OBJECTIVE_PROPERTIES["falls_as_the_probability_rises"](WithReference(FSft(name)))


@pytest.mark.parametrize("name", IMPLICIT_REWARDS)
def test_the_bregman_form_ignores_padding(name: str) -> None:
    OBJECTIVE_PROPERTIES["ignores_padding"](WithReference(FSftBregman(name)))


@pytest.mark.parametrize("name", IMPLICIT_REWARDS)
def test_the_bregman_form_is_finite_at_extremes(name: str) -> None:
    """Also where one of the two gives a token no probability at all."""
    method, labels = FSftBregman(name), torch.tensor([[0, 1, 2]])
    extremes = torch.tensor([[[1e4, 0.0, -1e4], [0.0, -1e4, 1e4], [-torch.inf, 0.0, 1.0]]])
    for mine, theirs in (
        (extremes, extremes.flip(2)),
        (torch.zeros(1, 3, 3), extremes),
        (extremes, torch.zeros(1, 3, 3)),
    ):
        logits = mine.clone().requires_grad_()
        reference = score_logits(
            theirs, torch.tensor([[0, 1, 2]]).where(theirs[0].isfinite().all(1), 1), request=method.request
        )
        scores = score_logits(logits, labels, request=method.statistics(reference))
        losses = method.compare(scores, reference)[0]
        (slopes,) = torch.autograd.grad(losses.sum(), logits)
        assert losses.isfinite().all()
        assert slopes.isfinite().all()


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(ValueError, match="`divergence` must not be 'pearsn'; did you mean `pearson`"):
        FSft("pearsn")
    with pytest.raises(ValueError, match="`divergence` must not be 'likelihood'"):
        FSftBregman("likelihood")
