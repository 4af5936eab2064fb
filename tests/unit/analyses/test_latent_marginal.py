"""Importance sampling against quadrature, against a posterior that is exact, and against itself in other batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpseq.analyses.latent import MarginalEstimate, marginal_log_prob
from sharpseq.decoding import EncoderOutput
from sharpseq.models import LatentNat, LatentNatConfig
from sharpseq.scoring import DiagonalGaussian

SIZES: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "max_target_positions": 20,
}
SOURCE = torch.tensor([[5, 6, 7, 0]])
BATCH = {"input_ids": SOURCE, "attention_mask": torch.ones_like(SOURCE)}


def tiny_model(*, vocab_size: int = 8, latent_size: int = 1) -> LatentNat:
    torch.manual_seed(3)
    model = LatentNat(LatentNatConfig(vocab_size=vocab_size, latent_size=latent_size, **SIZES)).double().eval()
    # Fresh weights hardly look at the latent; these do, and posterior and prior are apart.
    with torch.no_grad():
        model.latent_input.weight.mul_(8)
        for head in (model.prior_head, model.posterior_head):
            head.weight.normal_(std=0.08)
        model.posterior_head.bias[latent_size:] += 0.1
    return model


@torch.no_grad()
def by_quadrature(model: LatentNat) -> Tensor:
    """log p(y|x, T = 1) of every token, by the trapezoidal rule over z; shares no code with the estimator."""
    encoded = model.encode(SOURCE, torch.ones_like(SOURCE))
    prior = model.prior(encoded, torch.tensor([1]))
    mean, std = prior.mean.item(), prior.log_std.exp().item()
    grid = torch.linspace(mean - 9 * std, mean + 9 * std, 4001, dtype=torch.float64)
    density = torch.exp(-(((grid - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    logits = model.decode_latent(encoded.repeat_interleave(4001), grid[:, None, None], torch.ones(4001).long())
    return torch.trapezoid(logits[:, 0].softmax(-1) * density[:, None], grid, dim=0).log()


def of_every_token(model: LatentNat, **options: Any) -> MarginalEstimate:
    vocab_size = model.config.vocab_size
    batch = {name: ids.expand(vocab_size, -1) for name, ids in BATCH.items()}
    return marginal_log_prob(model, batch, torch.arange(vocab_size)[:, None], torch.ones(vocab_size).long(), **options)


def test_it_is_the_integral_for_every_token_and_the_tokens_add_up_to_one() -> None:
    model = tiny_model()
    estimate, exact = of_every_token(model, num_samples=4000), by_quadrature(model)
    assert exact.exp().sum() == pytest.approx(1, abs=1e-9)
    assert exact.max() - exact.min() > 0.5
    assert (estimate.standard_error < 0.1).all()
    assert (estimate.standard_error > 1e-5).all()
    assert ((estimate.log_prob - exact).abs() < 4 * estimate.standard_error).all()
    probs = estimate.log_prob.exp()
    error = (probs * estimate.standard_error).square().sum().sqrt()
    assert (probs.sum() - 1).abs() < 4 * error
    assert (estimate.lower_bound <= estimate.log_prob).all()


def test_the_mean_weight_is_unbiased_and_the_standard_error_is_the_spread_over_seeds() -> None:
    model = tiny_model()
    exact = by_quadrature(model)[5]
    target, one = torch.tensor([[5]]), torch.tensor([1])
    found = [marginal_log_prob(model, BATCH, target, one, num_samples=30, seed=seed) for seed in range(200)]
    probs = np.array([estimate.log_prob.exp().item() for estimate in found])
    assert probs.mean() == pytest.approx(exact.exp().item(), abs=4 * probs.std() / math.sqrt(200))
    spread = np.std([estimate.log_prob.item() for estimate in found])
    claimed = math.sqrt(np.mean([estimate.standard_error.item() ** 2 for estimate in found]))
    assert claimed == pytest.approx(spread, rel=0.25)


def test_a_longer_target_is_a_product_when_positions_do_not_see_each_other() -> None:
    estimate = marginal_log_prob(Independent(), BATCH, torch.tensor([[2, 0, 1]]), torch.tensor([3]), num_samples=20000)
    one = [
        marginal_log_prob(Independent(), BATCH, torch.tensor([[token]]), torch.tensor([1]), num_samples=20000)
        for token in (2, 0, 1)
    ]
    product = sum(part.log_prob.item() for part in one)
    assert estimate.log_prob.item() == pytest.approx(product, abs=5 * estimate.standard_error.item())


@dataclass
class Configuration:
    pad_token_id: int = 1
    eos_token_id: int = 0
    mask_token_id: int | None = None
    max_target_positions: int = 9
    latent_size: int = 1


class Independent:
    """Positions on their own, p(y|z) a softmax of (0, z, −z) times `strength`; the posterior is the prior."""

    config = Configuration()
    refiner = None

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        return EncoderOutput(torch.zeros(*input_ids.shape, 1, dtype=torch.float64), attention_mask, input_ids)

    def predict_length_log_probs(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        return torch.tensor([[1, 1, 2]]), torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).log()

    def prior(self, encoded: EncoderOutput, lengths: Tensor) -> DiagonalGaussian:
        zero = torch.zeros(len(lengths), int(lengths.max()), 1, dtype=torch.float64)
        return DiagonalGaussian(zero, zero)

    def posterior(self, encoded: EncoderOutput, target_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        return self.prior(encoded, lengths)

    def decode_latent(self, encoded: EncoderOutput, latent: Tensor, lengths: Tensor) -> Tensor:
        return self.strength * torch.cat([torch.zeros_like(latent), latent, -latent], -1)


def test_an_exact_posterior_makes_every_sample_count() -> None:
    # Tokens that do not depend on the latent: the posterior is the prior, and every weight is p(y|x).
    estimate = marginal_log_prob(Independent(0.0), BATCH, torch.tensor([[2, 0]]), torch.tensor([2]), num_samples=50)
    assert estimate.log_prob.item() == pytest.approx(2 * math.log(1 / 3), abs=1e-12)
    assert estimate.effective_samples.item() == pytest.approx(50)
    assert estimate.standard_error.item() == pytest.approx(0, abs=1e-12)
    assert estimate.lower_bound.item() == pytest.approx(estimate.log_prob.item())
    rough = marginal_log_prob(Independent(9.0), BATCH, torch.tensor([[2, 0]]), torch.tensor([2]), num_samples=50)
    assert 1 <= rough.effective_samples.item() < 30


def test_lengths_that_share_classes_add_up_and_impossible_ones_are_impossible() -> None:
    for targets, expected in (([[2]], 0.5), ([[2, 2]], 0.5), ([[2, 2, 2]], 0.0)):
        found = marginal_log_prob(
            Independent(), BATCH, torch.tensor(targets), torch.tensor([len(targets[0])]), num_samples=2
        )
        assert found.length_log_prob.exp().item() == pytest.approx(expected)


def test_the_batch_around_a_pair_and_the_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(vocab_size=12, latent_size=3)
    sources = torch.tensor([[5, 6, 7, 0], [8, 0, 1, 1], [5, 6, 7, 0]])
    batch = {"input_ids": sources, "attention_mask": (sources != 1).long()}
    targets, lengths = torch.tensor([[7, 8, 9], [10, 11, 3], [7, 8, 2]]), torch.tensor([3, 2, 2])
    together = marginal_log_prob(model, batch, targets, lengths, num_samples=40)
    assert together.log_prob.shape == (3,)
    for row in (2, 0, 1):
        alone = marginal_log_prob(
            model,
            {"input_ids": sources[row : row + 1], "attention_mask": batch["attention_mask"][row : row + 1]},
            targets[row : row + 1, : lengths[row]],
            lengths[row : row + 1],
            num_samples=40,
        )
        for name in ("log_prob", "standard_error", "effective_samples", "lower_bound", "length_log_prob"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[row], rtol=1e-12, atol=0)
    monkeypatch.setattr("sharpseq.analyses.latent.marginal._MOST_LOGITS", 7 * 3 * 12)
    in_chunks = marginal_log_prob(model, batch, targets, lengths, num_samples=40)
    torch.testing.assert_close(in_chunks.log_prob, together.log_prob, rtol=0, atol=1e-12)
    other = marginal_log_prob(model, batch, targets, lengths, num_samples=40, seed=1)
    assert (other.log_prob != together.log_prob).all()


def test_the_model_is_left_in_training_mode_and_its_dropout_is_off() -> None:
    model = LatentNat(LatentNatConfig(vocab_size=9, latent_size=1, dropout=0.5, **SIZES)).train()
    both = [marginal_log_prob(model, BATCH, torch.tensor([[5]]), torch.tensor([1]), num_samples=3) for _ in "ab"]
    assert both[0].log_prob == both[1].log_prob
    assert model.training


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"num_samples": 1}, "`num_samples` must be at least 2; got 1"),
        ({"num_tokens": torch.tensor([0])}, r"`num_tokens` must be from 1 to 2; got \[0\]"),
        ({"num_tokens": torch.tensor([3])}, r"`num_tokens` must be from 1 to 2; got \[3\]"),
        ({"num_tokens": torch.tensor([1, 1])}, "must have a row for each of 1 sources"),
        ({"sequences": torch.zeros(2, 2).long()}, "must have a row for each of 1 sources"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], reported: str) -> None:
    arguments = {"sequences": torch.tensor([[2, 2]]), "num_tokens": torch.tensor([2])} | changes
    with pytest.raises(ValueError, match=reported):
        marginal_log_prob(Independent(), BATCH, **arguments)
