"""Best of n: the rule, its divergence from single samples against enumeration, and every kind of model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sharpseq.decoding import best_of_n_decode, best_of_n_divergence
from sharpseq.models import MODELS

SIZES = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 1, "ffn_dim": 8}


def exact_divergence(probs: list[float], n: int) -> tuple[float, list[float]]:
    """KL(best of n ‖ base) for outcomes in the order of their rewards, and the best-of-n distribution."""
    heights = [0.0, *itertools.accumulate(probs)]
    best = [(high**n - low**n) for low, high in itertools.pairwise(heights)]
    terms = (b * math.log(b / p) for b, p in zip(best, probs, strict=True) if b > 0)
    return sum(terms), best


@pytest.mark.parametrize("n", [2, 4, 16])
@pytest.mark.parametrize("top", [1.0, 0.5, 0.1, 0.01])
def test_the_divergence_is_exact_where_only_the_best_outcome_is_an_atom(top: float, n: int) -> None:
    atoms = 200_000
    rest = (1 - top) / atoms
    exact, best = exact_divergence([*([rest] * atoms if rest else []), top], n)
    # A chosen outcome of the continuous part has hardly any probability; the atom has `top`.
    estimate = best_of_n_divergence(torch.tensor([top], dtype=torch.float64).log(), n=n)
    assert float(estimate) == pytest.approx(exact, abs=2e-4)
    assert exact <= math.log(n) - (n - 1) / n + 1e-9
    assert sum(best) == pytest.approx(1)


def test_the_divergence_has_its_limits() -> None:
    sure, rare = best_of_n_divergence(torch.tensor([0.0, -300.0], dtype=torch.float64), n=8).tolist()
    assert sure == pytest.approx(0)
    assert rare == pytest.approx(math.log(8) - 7 / 8)
    assert best_of_n_divergence(torch.tensor([-1.0]), n=1).tolist() == [0]
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        best_of_n_divergence(torch.tensor([-1.0]), n=0)


@pytest.mark.parametrize("family", ["ctc", "vanilla_nat", "cmlm", "autoregressive"])
def test_the_reward_chooses(family: str) -> None:
    torch.manual_seed(0)
    model = MODELS[family].model(MODELS[family].config(vocab_size=12, **SIZES)).eval()
    source = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 1]])
    batch = {"input_ids": source, "attention_mask": (source != 1).long()}

    def number_of_fives(given: object, sequences: torch.Tensor, num_tokens: torch.Tensor) -> torch.Tensor:
        return (sequences == 5).sum(1).double()

    found = best_of_n_decode(model, batch, n=12, rescorer=number_of_fives)
    scores = found.trace["candidate_scores"]
    assert scores.shape == (2, 12)
    assert (found.sequences == 5).sum(1).tolist() == scores.amax(1).tolist()
    assert scores.amax(1).sum() > scores.mean(1).sum()
    upper = math.log(12) - 11 / 12
    assert ((found.trace["kl_from_base"] >= 0) & (found.trace["kl_from_base"] <= upper + 1e-6)).all()
    again = best_of_n_decode(model, batch, n=12, rescorer=number_of_fives)
    assert again.sequences.equal(found.sequences)
    other = best_of_n_decode(model, batch, n=12, seed=1, rescorer=number_of_fives)
    assert not other.trace["candidates"].equal(found.trace["candidates"])
    with pytest.raises(ValueError, match=r"`rescorer` must return shape \(24,\)"):
        best_of_n_decode(model, batch, n=12, rescorer=lambda *given: torch.zeros(3))
