"""Weights and gradient norms: against autograd on a real softmax, and against the formulas of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from sharpseq import ConvexComposition, SequenceScores
from sharpseq.objectives import BoxCox, Exponential, Identity, Power, Transform, sequence_weights
from sharpseq.theory import log_gradient_norm, weights

TRANSFORMS = [Identity(), Exponential(0.5), Exponential(3.0), BoxCox(2.0), Power(0.4)]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize(("length", "vocab_size"), [(1, 2), (3, 5), (20, 50)])
def test_the_norm_is_that_of_autograd_on_the_logits(transform: Transform, length: int, vocab_size: int) -> None:
    for log_prob in (-0.3, -4.0, -30.0):
        token = math.exp(log_prob / length)
        row = torch.full((vocab_size,), (1 - token) / (vocab_size - 1), dtype=torch.float64)
        row[0] = token
        logits = row.log().repeat(length, 1).requires_grad_()
        total = torch.log_softmax(logits, -1)[:, 0].sum()
        loss = ConvexComposition(transform)(SequenceScores(log_prob=total[None], num_tokens=torch.tensor([length])))
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        found = log_gradient_norm(transform, torch.tensor([log_prob]), length=length, vocab_size=vocab_size)
        assert float(found.exp()) == pytest.approx(float(gradient.norm()), rel=1e-6)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_weights_are_those_that_training_logs(transform: Transform) -> None:
    probs = torch.tensor([0.01, 0.4, 0.99], dtype=torch.float64)
    scores = SequenceScores(log_prob=probs.log(), num_tokens=torch.full((3,), 4))
    assert torch.allclose(weights(transform, probs, length=4), sequence_weights(ConvexComposition(transform), scores))


def test_weights_are_equation_13() -> None:
    p = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert torch.allclose(weights(Exponential(3.0), p, length=2), 3 * p ** (3 / 2))
    assert torch.allclose(weights(Power(0.3), p, length=2), 0.3 * (-p.log() / 2) ** (0.3 - 1))
    assert torch.equal(weights(Identity(), p), torch.ones(3, dtype=torch.float64))


def test_the_gradient_of_the_probability_itself_falls_with_the_probability_where_that_of_likelihood_does_not() -> None:
    """Equation 9, with probabilities that no float holds: p = 6000^−100 is e^−870."""
    x = torch.tensor([-870.0, -435.0], dtype=torch.float64)
    plain = log_gradient_norm(Exponential(100.0), x, length=100, vocab_size=6000)
    likelihood = log_gradient_norm(Identity(), x, length=100, vocab_size=6000)
    assert float(plain[1] - plain[0]) == pytest.approx(435, abs=0.1)
    assert abs(float(likelihood[1] - likelihood[0])) < 0.1


@pytest.mark.parametrize(
    ("call", "reported"),
    [
        (lambda: weights(Identity(), torch.tensor([0.0])), r"`probs` must be in \(0, 1\]"),
        (lambda: weights(Identity(), torch.tensor([0.5]), length=0.5), "`length` must be at least 1; got 0.5"),
        (
            lambda: log_gradient_norm(Identity(), torch.tensor([0.0]), length=1, vocab_size=2),
            "`log_probs` must be below 0",
        ),
        (
            lambda: log_gradient_norm(Identity(), torch.tensor([-1.0]), length=0, vocab_size=2),
            "`length` must be at least 1",
        ),
        (
            lambda: log_gradient_norm(Identity(), torch.tensor([-1.0]), length=1, vocab_size=1),
            "`vocab_size` must be at least 2",
        ),
    ],
)
def test_arguments_that_make_no_sense(call, reported: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=reported):
        call()
