"""Properties that objectives and transforms declare, as assertions: (method) → None, or an AssertionError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from sharpseq.objectives import MaximumLikelihood, Objective, derivative, needs_of
from sharpseq.scoring import IGNORED, SequenceScores, TokenScores, score_logits
from sharpseq.scoring.ngram_counts import ngram_scores, windows


def _with_ngrams(scores: SequenceScores, objective: Objective) -> SequenceScores:
    """Add n-grams where an objective reads them: as many as a model expects that writes T tokens, all different."""
    order = needs_of(objective).ngram_order
    if not order:
        return scores
    tokens = scores.token_scores()
    probs = windows(tokens.log_probs.masked_fill(~tokens.mask, -torch.inf).exp(), order).prod(2)
    labels = torch.arange(tokens.mask.shape[1]).where(tokens.mask, IGNORED)
    length = scores.num_tokens.to(probs)
    number = (length - order + 1).clamp(min=0)
    ngrams = ngram_scores(probs, labels, order=order, num_expected=number, expected_length=length)
    return replace(scores, ngrams=ngrams)


def _scores_of_logits(logits: torch.Tensor, labels: torch.Tensor, objective: Objective) -> SequenceScores:
    request = replace(needs_of(objective), ngram_order=0)
    return _with_ngrams(score_logits(logits, labels, request=request), objective)


def _scores(dtype: torch.dtype = torch.float64, *, scale: float = 1.0) -> SequenceScores:
    """Scores of three sequences of 1, 4 and 6 tokens, between near certain and hopeless."""
    log_probs = torch.zeros(3, 6, dtype=dtype)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for row, (length, total) in enumerate(((1, -0.5), (4, -6.0), (6, -20.0))):
        mask[row, :length] = True
        steps = torch.arange(1, length + 1, dtype=dtype)
        log_probs[row, :length] = scale * total * steps / steps.sum()
    means = torch.where(mask, torch.tensor(-3.0, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    return TokenScores(log_probs, mask, vocab_mean_log_probs=means).to_sequences()


def _of_tokens(log_probs: torch.Tensor, like: SequenceScores) -> SequenceScores:
    assert like.tokens is not None
    return replace(like.tokens, log_probs=log_probs).to_sequences()


def loss_per_sequence_in_the_dtype_of_the_scores(objective: Objective) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        loss = objective(_with_ngrams(_scores(dtype), objective))
        assert loss.shape == (3,)
        assert loss.dtype == dtype
        assert loss.isfinite().all()


def finite_at_extremes(objective: Objective) -> None:
    for log_prob in (0.0, -1e-30, -1e4):
        leaf = torch.full((1, 3), log_prob / 3, requires_grad=True)
        means = torch.full((1, 3), -3.0)
        tokens = TokenScores(leaf, torch.ones(1, 3, dtype=torch.bool), vocab_mean_log_probs=means)
        loss = objective(_with_ngrams(tokens.to_sequences(), objective))
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def batch_equals_singles(objective: Objective) -> None:
    batch = _with_ngrams(_scores(), objective)
    assert batch.tokens is not None
    rows = [
        objective(
            _with_ngrams(
                TokenScores(
                    batch.tokens.log_probs[i : i + 1],
                    batch.tokens.mask[i : i + 1],
                    vocab_mean_log_probs=batch.tokens.vocab_mean_log_probs[i : i + 1],
                ).to_sequences(),
                objective,
            )
        )
        for i in range(3)
    ]
    torch.testing.assert_close(objective(batch), torch.cat(rows))


def ignores_padding(objective: Objective) -> None:
    """Padding changes neither value nor gradient."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7, dtype=torch.float64)
    labels = torch.tensor([[1, 2, 3], [4, 5, -100]])
    results = []
    for padding in (0, 4):
        padded = torch.nn.functional.pad(logits, (0, 0, 0, padding), value=3.0).requires_grad_()
        padded_labels = torch.nn.functional.pad(labels, (0, padding), value=-100)
        loss = objective(_scores_of_logits(padded, padded_labels, objective))
        (gradient,) = torch.autograd.grad(loss.sum(), padded)
        assert (gradient[:, 3:] == 0).all()
        results.append((loss, gradient[:, :3]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def empty_sequence_is_a_constant(objective: Objective) -> None:
    """An empty sequence has a constant loss that is still attached to the graph."""
    logits = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    loss = objective(_scores_of_logits(logits, torch.full((1, 2), -100), objective))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert (gradient == 0).all()


def gradcheck(objective: Objective) -> None:
    """The gradient is that of finite differences; not so where a weight is detached by design."""
    batch = _scores()
    assert batch.tokens is not None
    leaf = batch.tokens.log_probs.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda log_probs: objective(_with_ngrams(_of_tokens(log_probs, batch), objective)), leaf
    )


def falls_as_the_probability_rises(objective: Objective) -> None:
    log_probs = torch.linspace(-30, -0.1, 50, dtype=torch.float64)[:, None].expand(50, 5) / 5
    means = torch.full((50, 5), -20.0, dtype=torch.float64)
    tokens = TokenScores(log_probs, torch.ones(50, 5, dtype=torch.bool), vocab_mean_log_probs=means)
    assert (objective(_with_ngrams(tokens.to_sequences(), objective)).diff() < 0).all()


def convex_in_logits(objective: Objective) -> None:
    """The loss between two points is at most the mean of the losses at them."""
    torch.manual_seed(0)
    labels = torch.tensor([[1, 2, 0]])
    for _ in range(20):
        ends = [torch.randn(1, 3, 4, dtype=torch.float64) * 3 for _ in range(2)]
        low, high = (objective(_scores_of_logits(end, labels, objective)) for end in ends)
        middle = objective(_scores_of_logits((ends[0] + ends[1]) / 2, labels, objective))
        assert middle <= (low + high) / 2 + 1e-12


def equals_maximum_likelihood(objective: Objective) -> None:
    torch.testing.assert_close(objective(_scores()), MaximumLikelihood()(_scores()), rtol=0, atol=0)


OBJECTIVE_PROPERTIES: dict[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (
        loss_per_sequence_in_the_dtype_of_the_scores,
        finite_at_extremes,
        batch_equals_singles,
        ignores_padding,
        empty_sequence_is_a_constant,
        gradcheck,
        falls_as_the_probability_rises,
        convex_in_logits,
        equals_maximum_likelihood,
    )
}


def _grid() -> torch.Tensor:
    return torch.linspace(-8, -0.05, 60, dtype=torch.float64)


def rises(transform: Any) -> None:
    assert (transform(_grid()).diff() > 0).all()


def derivative_is_the_slope(transform: Any) -> None:
    leaf = _grid().requires_grad_()
    (slope,) = torch.autograd.grad(transform(leaf).sum(), leaf)
    torch.testing.assert_close(derivative(transform, leaf), slope)


def finite_at_the_edges(transform: Any) -> None:
    for g in (0.0, -1e-30, -1e4):
        leaf = torch.tensor([g], requires_grad=True)
        value = transform(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        assert value.isfinite().all()
        assert slope.isfinite().all()


def keeps_dtype(transform: Any) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert transform(_grid().to(dtype)).dtype == dtype


def convex(transform: Any) -> None:
    assert (transform(_grid()).diff().diff() > 0).all()


def equals_identity(transform: Any) -> None:
    torch.testing.assert_close(transform(_grid()), _grid())


TRANSFORM_PROPERTIES: dict[str, Callable[[Any], None]] = {
    check.__name__: check
    for check in (rises, derivative_is_the_slope, finite_at_the_edges, keeps_dtype, convex, equals_identity)
}
