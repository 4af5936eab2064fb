"""Losses and gradients against equations 7 to 13 of Shao et al. 2023, computed here by hand in float64 with numpy."""

import math

import numpy as np
import pytest
import torch

from sharpseq.declarations import Linear, OwnSchedule, Steps
from sharpseq.objectives import (
    BoxCox,
    ConvexComposition,
    Exponential,
    MaximumLikelihood,
    Power,
    derivative,
    sequence_weights,
)
from sharpseq.scoring import ScoreRequest, SequenceScores, score_logits

LOG_PROBS = np.array([-0.3, -2.0, -11.5, -70.0])
LENGTHS = np.array([1, 4, 5, 7])


def scores(log_prob: np.ndarray = LOG_PROBS, **kwargs: torch.Tensor) -> SequenceScores:
    leaf = torch.tensor(log_prob, dtype=torch.float64, requires_grad=True)
    return SequenceScores(log_prob=leaf, num_tokens=torch.tensor(LENGTHS), **kwargs)


@pytest.mark.parametrize("k", [0.5, 1.0, 3.0, 8.0])
def test_exponential_loss_is_equation_12_and_its_weight_equation_13(k: float) -> None:
    batch = scores()
    loss = ConvexComposition(Exponential(k))(batch)
    probability = np.exp(LOG_PROBS)
    np.testing.assert_allclose(loss.detach(), -(probability ** (k / LENGTHS)), rtol=1e-12)

    (gradient,) = torch.autograd.grad(loss.sum(), batch.log_prob)
    weight = k * probability ** (k / LENGTHS)
    np.testing.assert_allclose(gradient, -weight / LENGTHS, rtol=1e-12)


@pytest.mark.parametrize("k", [0.1, 0.5, 1.0])
def test_power_loss_is_equation_12_and_its_weight_equation_13(k: float) -> None:
    batch = scores()
    loss = ConvexComposition(Power(k))(batch)
    g = LOG_PROBS / LENGTHS
    np.testing.assert_allclose(loss.detach(), (-g) ** k, rtol=1e-12)

    (gradient,) = torch.autograd.grad(loss.sum(), batch.log_prob)
    np.testing.assert_allclose(gradient, -k * (-g) ** (k - 1) / LENGTHS, rtol=1e-12)


def test_gradient_reaches_parameters_as_equation_9_says() -> None:
    """The gradient is f'(g) times that of the log-likelihood, here with respect to the logits of a softmax."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 4, 0]])
    k = 2.0
    loss = ConvexComposition(Exponential(k))(score_logits(logits, labels))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)

    z = logits.detach().numpy()[0]
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    one_hot = np.eye(5)[labels[0]]
    g = np.log((p * one_hot).sum(-1)).sum() / 3
    expected = -k * math.exp(k * g) * (one_hot - p) / 3
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-10)


def test_label_smoothing_scales_the_smoothing_loss_by_the_detached_weight() -> None:
    k, epsilon = 3.0, 0.1
    uniform = torch.tensor([-2.0, -9.0, -30.0, -80.0], dtype=torch.float64, requires_grad=True)
    batch = scores(vocab_mean_log_prob=uniform)
    loss = ConvexComposition(Exponential(k), label_smoothing=epsilon)(batch)
    g, u = LOG_PROBS / LENGTHS, uniform.detach().numpy() / LENGTHS
    weight = k * np.exp(k * g)
    np.testing.assert_allclose(loss.detach(), -(1 - epsilon) * np.exp(k * g) - epsilon * weight * u, rtol=1e-12)

    by_log_prob, by_uniform = torch.autograd.grad(loss.sum(), [batch.log_prob, uniform])
    # Detached: no second derivative f'' in the gradient.
    np.testing.assert_allclose(by_log_prob, -(1 - epsilon) * weight / LENGTHS, rtol=1e-12)
    np.testing.assert_allclose(by_uniform, -epsilon * weight / LENGTHS, rtol=1e-12)


def test_label_smoothed_maximum_likelihood_is_cross_entropy_with_soft_targets() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 6, dtype=torch.float64)
    labels = torch.randint(6, (2, 4))
    loss = MaximumLikelihood(label_smoothing=0.2)(score_logits(logits, labels, request=ScoreRequest(vocab_mean=True)))
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=0.2, reduction="none"
    ).view(2, 4)
    torch.testing.assert_close(loss, expected.mean(1))


@pytest.mark.parametrize("transform", [BoxCox(1e-9), BoxCox(0), Power(1.0)])
def test_limits_are_maximum_likelihood(transform: object) -> None:
    ours, reference = scores(), scores()
    loss = ConvexComposition(transform)(ours)
    expected = MaximumLikelihood()(reference)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), ours.log_prob)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), reference.log_prob)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-6)


def test_direction_of_the_plain_exponential_tends_to_maximum_likelihood() -> None:
    """Plain exp(kg) loses its gradient with k, but its direction is that of maximum likelihood as k → 0."""
    k = 1e-8
    batch = scores()
    (gradient,) = torch.autograd.grad(ConvexComposition(Exponential(k))(batch).sum(), batch.log_prob)
    np.testing.assert_allclose(gradient / k, -1 / LENGTHS, atol=1e-6)


def test_transform_of_the_user_gets_its_derivative_by_autograd() -> None:
    g = torch.tensor([-0.5, -3.0], dtype=torch.float64)
    torch.testing.assert_close(derivative(torch.tanh, g), 1 - torch.tanh(g) ** 2)
    uniform = torch.zeros(4, dtype=torch.float64)
    loss = ConvexComposition(torch.tanh, label_smoothing=0.1)(scores(vocab_mean_log_prob=uniform))
    np.testing.assert_allclose(loss.detach(), -0.9 * np.tanh(LOG_PROBS / LENGTHS), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("k", [0.5, 4.0])
def test_weights_are_the_derivative_of_the_transform(k: float, smoothing: float) -> None:
    batch = scores(vocab_mean_log_prob=torch.full((4,), -5.0, dtype=torch.float64))
    weights = sequence_weights(ConvexComposition(Exponential(k), label_smoothing=smoothing), batch)
    np.testing.assert_allclose(weights, k * np.exp(k * LOG_PROBS / LENGTHS), rtol=1e-12)
    assert not weights.requires_grad
    assert batch.log_prob.grad is None


def test_annealing_moves_k_on_a_straight_line_and_stays() -> None:
    objective = ConvexComposition(BoxCox(Linear(0, 4, until=0.5)))
    values = [objective.at(progress).transform.k for progress in (0, 0.25, 0.5, 1.0)]
    assert values == [0, 2, 4, 4]
    with pytest.raises(TypeError, match=r"`at\(progress\)` first"):
        objective(scores())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exponential(0), "greater than 0; got 0"),
        (lambda: Exponential(-1), "got -1"),
        (lambda: Exponential(float("nan")), "got nan"),
        (lambda: Exponential(float("inf")), "got inf"),
        (lambda: BoxCox(-0.1), "at least 0; got -0.1"),
        (lambda: Power(0), r"\(0, 1\]; got 0"),
        (lambda: Power(1.5), "got 1.5"),
        (lambda: MaximumLikelihood(label_smoothing=1.0), r"\[0, 1\); got 1.0"),
        (lambda: Exponential(Linear(0, 4)), "greater than 0; its schedule .* reaches 0"),
        (lambda: Power(Steps([0.5, 1.5], at=[0.9])), r"in \(0, 1\]; its schedule .* reaches 1.5"),
        (lambda: BoxCox(OwnSchedule(lambda progress: 1 - 2 * progress)), "at least 0; its schedule .* reaches -1"),
    ],
)
def test_impossible_values_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_transform_must_be_callable_and_smoothing_needs_uniform_scores() -> None:
    with pytest.raises(TypeError, match="must be a method or callable"):
        ConvexComposition(3.0)
    with pytest.raises(ValueError, match="vocab_mean_log_prob"):
        MaximumLikelihood(label_smoothing=0.1)(scores())
