"""Generalised cross-entropy against its definition and the comp-sum family, computed here in float64 with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sharpseq.objectives import OBJECTIVES, sequence_weights
from sharpseq.scoring import ScoreRequest, SequenceScores, TokenScores, score_ctc

PROBS = np.array([[0.9, 0.5, 1e-3], [0.2, 0.7, 0.0]])
MASK = np.array([[True, True, True], [True, True, False]])
GeneralizedCrossEntropy = OBJECTIVES["generalized_cross_entropy"]


def scores() -> SequenceScores:
    log_probs = torch.tensor(np.log(np.where(MASK, PROBS, 1.0)), requires_grad=True)
    return TokenScores(log_probs, torch.tensor(MASK)).to_sequences()


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0, 2.5])
def test_values_and_gradients_are_those_of_the_definition(q: float) -> None:
    batch = scores()
    loss = GeneralizedCrossEntropy(q=q)(batch)
    by_hand = np.where(MASK, (1 - PROBS**q) / q, 0).sum(1) / MASK.sum(1)
    np.testing.assert_allclose(loss.detach(), by_hand, rtol=1e-12)
    # The comp-sum loss Φ_τ(1/p − 1) with τ = q + 1, Mao et al. 2023, equation 3.
    v = 1 / np.where(MASK, PROBS, 1.0) - 1
    comp_sum = np.where(MASK, ((1 + v) ** -q - 1) / -q, 0).sum(1) / MASK.sum(1)
    np.testing.assert_allclose(loss.detach(), comp_sum, rtol=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), batch.tokens.log_probs)
    np.testing.assert_allclose(
        gradient, np.where(MASK, -(PROBS**q), 0) / MASK.sum(1, keepdims=True), rtol=1e-12, atol=1e-15
    )


def test_the_limit_is_maximum_likelihood() -> None:
    near, limit = (GeneralizedCrossEntropy(q=q)(scores()).detach() for q in (1e-9, 0.0))
    torch.testing.assert_close(near, limit, atol=1e-7, rtol=1e-7)
    np.testing.assert_allclose(limit, -np.log(np.where(MASK, PROBS, 1.0)).sum(1) / MASK.sum(1), rtol=1e-12)


def test_a_sequence_weighs_the_mean_of_its_tokens_powers() -> None:
    weights = sequence_weights(GeneralizedCrossEntropy(q=0.5), scores())
    np.testing.assert_allclose(weights, np.where(MASK, PROBS**0.5, 0).sum(1) / MASK.sum(1), rtol=1e-12)


def test_scores_of_sequences_alone_are_refused() -> None:
    logits, mask = torch.zeros(1, 4, 5), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="reads the log-probability of each token"):
        GeneralizedCrossEntropy()(score_ctc(logits, mask, torch.tensor([[1, 2]]), blank=0))
    with pytest.raises(ValueError, match="reads the log-probability of each token"):
        score_ctc(logits, mask, torch.tensor([[1, 2]]), blank=0, request=ScoreRequest(token_log_probs=True))
