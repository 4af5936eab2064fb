"""Comp-sum losses against their definition as a sum over the other tokens, and the bound on errors they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sharpseq.objectives import CompSum, GeneralizedCrossEntropy, sequence_weights
from sharpseq.objectives.comp_sum import comp_sum_losses
from sharpseq.objectives.tangents import STEEPEST
from sharpseq.scoring import score_ctc, score_logits

TAUS = [0.0, 0.4, 1.0, 1.5, 2.0, 3.0]


def phi(v: float, tau: float) -> float:
    """Φ_τ of Mao et al. 2023, equation 3."""
    return math.log(1 + v) if tau == 1 else ((1 + v) ** (1 - tau) - 1) / (1 - tau)


@pytest.mark.parametrize("tau", TAUS)
def test_a_token_pays_phi_of_the_sum_over_the_others(tau: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[1, 4, 0], [2, 3, -100]])
    expected = []
    for row, targets in zip(logits.tolist(), labels.tolist(), strict=True):
        paid = [
            phi(sum(math.exp(z - step[y]) for k, z in enumerate(step) if k != y), tau)
            for step, y in zip(row, targets, strict=True)
            if y >= 0
        ]
        expected.append(sum(paid) / len(paid))
    np.testing.assert_allclose(CompSum(tau)(score_logits(logits, labels)), expected, rtol=1e-12)


# The values of a token with p = 1/4, by hand: 1/p − 1 = 3; 2 (√4 − 1) = 2; log 4; 2 (1 − ½) = 1; 1 − ¼; ½ (1 − 1/16).
@pytest.mark.parametrize(
    ("tau", "by_hand"), [(0, 3.0), (0.5, 2.0), (1, math.log(4)), (1.5, 1.0), (2, 0.75), (3, 15 / 32)]
)
def test_named_members_of_the_family(tau: float, by_hand: float) -> None:
    losses = comp_sum_losses(torch.tensor([0.25], dtype=torch.float64).log(), power=tau - 1)
    np.testing.assert_allclose(losses, [by_hand], rtol=1e-14)


def test_above_one_it_is_generalised_cross_entropy() -> None:
    scores = score_logits(torch.randn(2, 3, 5), torch.tensor([[1, 4, 0], [2, 3, -100]]))
    torch.testing.assert_close(CompSum(1.75)(scores), GeneralizedCrossEntropy(0.75)(scores), rtol=0, atol=0)


@pytest.mark.parametrize("tau", [0.0, 0.6])
def test_the_weight_of_an_impossible_token_stops_growing(tau: float) -> None:
    edge = -STEEPEST / (1 - tau)
    log_probs = torch.tensor([edge + 1e-6, edge - 1e-6, edge - 100], dtype=torch.float64, requires_grad=True)
    losses = comp_sum_losses(log_probs, power=tau - 1)
    (slopes,) = torch.autograd.grad(losses.sum(), log_probs)
    losses = losses.detach()
    np.testing.assert_allclose(slopes, np.full(3, -math.exp(STEEPEST)), rtol=1e-5)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2] - losses[1], 100 * math.exp(STEEPEST), rtol=1e-5)


def test_a_sequence_weighs_the_mean_of_its_tokens_powers() -> None:
    scores = score_logits(torch.randn(1, 3, 5, dtype=torch.float64), torch.tensor([[1, 4, 0]]))
    probs = scores.token_scores().log_probs.exp().numpy()
    np.testing.assert_allclose(sequence_weights(CompSum(0.25), scores), (probs**-0.75).mean(1), rtol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_a_small_loss_means_few_errors(tau: float) -> None:
    """The consistency bound of Mao et al. 2023, theorem 3.1, over all predictors: R01 − R01* ≤ Γ_τ(R_τ − R_τ*)."""
    generator = np.random.default_rng(0)
    tightness = 0.0
    for _ in range(3000):
        size = int(generator.integers(2, 6))
        truth = generator.dirichlet(np.full(size, generator.choice([0.3, 1, 10])))
        model = generator.dirichlet(np.full(size, generator.choice([1, 10, 100])))

        def risk(q: np.ndarray, truth: np.ndarray = truth) -> float:
            return float(truth @ comp_sum_losses(torch.tensor(q).log(), power=tau - 1).numpy())

        # The best q is proportional to p^(1/(2−τ)); of the mean absolute error, all on the most probable outcome.
        best = truth ** (1 / (2 - tau)) if tau < 2 else truth
        excess = risk(model) - (risk(best / best.sum()) if tau < 2 else 1 - truth.max())
        errors = truth.max() - truth[model.argmax()]
        if tau < 1:
            bound = math.sqrt(2**tau * (2 - tau) * excess)
        else:
            bound = math.sqrt(2 * size ** (tau - 1) * excess) if tau < 2 else size * excess
        assert errors <= bound + 1e-12
        tightness = max(tightness, errors / bound)
    assert tightness > (0.6 if 1 < tau < 2 else 0.9)


def test_scores_of_sequences_alone_are_refused() -> None:
    logits, mask = torch.zeros(1, 4, 5), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="reads the log-probability of each token"):
        CompSum()(score_ctc(logits, mask, torch.tensor([[1, 2]]), blank=0))
