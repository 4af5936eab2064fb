"""The latent-variable model: its bound against integrals over the latent, its latents, and the network it carries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from sharpseq import UserError
from sharpseq.decoding import DECODERS, EncoderOutput
from sharpseq.models import LatentNat, LatentNatConfig, LatentRefiner, LatentRefinerConfig
from sharpseq.models.pretrained import load_config, load_weights
from sharpseq.scoring import DiagonalGaussian, SequenceScores

SIZES: dict[str, Any] = {
    "vocab_size": 12,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "max_target_positions": 20,
}
REFINER_SIZES = {"d_model": 16, "num_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
SOURCE = torch.tensor([[5, 6, 7, 0], [8, 0, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = torch.tensor([[7, 8, 9], [10, -100, -100]])


def tiny_model(*, latent_size: int = 3, seed: int = 3, **changes: Any) -> LatentNat:
    """Make one, in float64, whose tokens depend on the latent and whose posterior is far from its prior."""
    torch.manual_seed(seed)
    model = LatentNat(LatentNatConfig(**{**SIZES, "latent_size": latent_size, "dropout": 0.0, **changes}))
    with torch.no_grad():
        model.latent_input.weight.mul_(8)
        for head in (model.prior_head, model.posterior_head):
            head.weight.normal_(std=0.15)
        model.posterior_head.bias[latent_size:] -= 0.2
    return model.double().eval()


def tiny_refiner(kind: str = "score", **changes: Any) -> LatentRefiner:
    config = LatentRefinerConfig(**{"parameterization": kind, "latent_size": 3, **REFINER_SIZES, **changes})
    return LatentRefiner(config).double().eval()


def from_latent(model: LatentNat, encoded: EncoderOutput, latent: Tensor, labels: Tensor) -> Tensor:
    """log p(y|z, x) by hand: a loop over rows and positions."""
    lengths = (labels != -100).sum(1)
    log_probs = model.decode_latent(encoded, latent, lengths).log_softmax(-1)
    return torch.stack(
        [
            sum(log_probs[row, t, labels[row, t]] for t in range(length)) + torch.zeros(())
            for row, length in enumerate(lengths.tolist())
        ]
    )


# The bound, with one number at one position: every expectation is an integral on a grid

GRID_SIZE = 4001


def log_density(grid: Tensor, of: DiagonalGaussian) -> Tensor:
    mean, std = of.mean.item(), of.log_std.exp().item()
    return -(((grid - mean) / std) ** 2) / 2 - math.log(std * math.sqrt(2 * math.pi))


class Toy:
    """A source, a target of one token, and what the model makes of them at every latent of a grid."""

    def __init__(self, model: LatentNat, token: int, monkeypatch: pytest.MonkeyPatch) -> None:
        source, mask = SOURCE[:1], MASK[:1]
        one = torch.tensor([1])
        with torch.no_grad():
            encoded = model.encode(source, mask)
            self.prior = model.prior(encoded, one)
            self.posterior = model.posterior(encoded, torch.tensor([[token]]), one)
            self.grid = torch.linspace(-20, 20, GRID_SIZE, dtype=torch.float64)
            many = encoded.repeat_interleave(GRID_SIZE)
            logits = model.decode_latent(many, self.grid[:, None, None], torch.ones(GRID_SIZE).long())
            self.log_likelihood = logits[:, 0].log_softmax(-1)[:, token]
            monkeypatch.setattr(DiagonalGaussian, "sample", lambda gaussian: self.grid[:, None, None])
            rows = torch.full((GRID_SIZE, 1), token)
            self.scores: SequenceScores = model.train()(source.expand(GRID_SIZE, -1), mask.expand(GRID_SIZE, -1), rows)

    @property
    def bound(self) -> float:
        """The evidence lower bound: the expectation of what `forward` returns over the latents it may draw."""
        value = self.scores.log_prob - self.scores.regularizers["kl"]
        return torch.trapezoid(log_density(self.grid, self.posterior).exp() * value, self.grid).item()

    @property
    def log_prob(self) -> float:
        """The logarithm of p(y|x), an integral over the prior that `forward` has no part in."""
        joint = self.log_likelihood + log_density(self.grid, self.prior)
        return torch.trapezoid(joint.exp(), self.grid).log().item()

    @property
    def gap(self) -> float:
        """KL(q(z|x, y) ‖ p(z|x, y)), which lies between them."""
        log_q = log_density(self.grid, self.posterior)
        exact = self.log_likelihood + log_density(self.grid, self.prior) - self.log_prob
        return torch.trapezoid(log_q.exp() * (log_q - exact), self.grid).item()


@pytest.mark.parametrize("token", range(0, 12, 2))
def test_the_bound_lies_below_the_probability_by_what_the_posterior_is_off(
    token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy(tiny_model(latent_size=1), token, monkeypatch)
    assert toy.gap > 0.01
    assert toy.bound < toy.log_prob
    assert toy.log_prob - toy.bound == pytest.approx(toy.gap, rel=1e-9)


def test_the_bound_is_tight_when_the_posterior_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(latent_size=1)
    with torch.no_grad():
        # Tokens that no latent changes leave the prior as it was.
        model.latent_input.weight.zero_()
        for head in (model.prior_head, model.posterior_head):
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.7, -0.4]))
    toy = Toy(model, 6, monkeypatch)
    assert toy.gap == pytest.approx(0, abs=1e-9)
    assert toy.bound == pytest.approx(toy.log_prob, abs=1e-9)


def test_samples_of_training_average_to_the_bound() -> None:
    count, token = 4000, 4
    model = tiny_model(latent_size=1)
    with pytest.MonkeyPatch.context() as patch:
        exact = Toy(model, token, patch).bound
    with torch.no_grad():
        scores = model.train()(SOURCE[:1].expand(count, -1), MASK[:1].expand(count, -1), torch.full((count, 1), token))
    values = scores.log_prob - scores.regularizers["kl"]
    error = values.std().item() / math.sqrt(count)
    assert error > 1e-4
    assert values.mean().item() == pytest.approx(exact, abs=4 * error)


# What forward returns


def test_in_evaluation_the_latent_is_the_posterior_mean() -> None:
    model = tiny_model()
    encoded, lengths = model.encode(SOURCE, MASK), torch.tensor([3, 1])
    posterior = model.posterior(encoded, torch.tensor([[7, 8, 9], [10, 1, 1]]), lengths)
    scores = model(SOURCE, MASK, LABELS)
    torch.testing.assert_close(scores.log_prob, from_latent(model, encoded, posterior.mean, LABELS))
    assert torch.equal(model(SOURCE, MASK, LABELS).log_prob, scores.log_prob)


def test_in_training_the_latent_is_a_sample() -> None:
    model = tiny_model().train()
    encoded, lengths = model.encode(SOURCE, MASK), torch.tensor([3, 1])
    posterior = model.posterior(encoded, torch.tensor([[7, 8, 9], [10, 1, 1]]), lengths)
    torch.manual_seed(5)
    noise = torch.randn(2, 3, 3, dtype=torch.float64)
    torch.manual_seed(5)
    scores = model(SOURCE, MASK, LABELS)
    latent = posterior.mean + posterior.log_std.exp() * noise
    torch.testing.assert_close(scores.log_prob, from_latent(model, encoded, latent, LABELS))
    assert (model(SOURCE, MASK, LABELS).log_prob != scores.log_prob).all()


def test_the_kl_is_told_for_every_number_and_once_in_all() -> None:
    model = tiny_model()
    scores = model(SOURCE, MASK, LABELS)
    assert scores.latent_kl.shape == (2, 3, 3)
    assert (scores.latent_kl[0] > 0).all()
    assert (scores.latent_kl[1, 0] > 0).all()
    assert (scores.latent_kl[1, 1:] == 0).all()
    torch.testing.assert_close(scores.regularizers["kl"], scores.latent_kl.sum((1, 2)))
    assert set(scores.regularizers) == {"kl", "length"}
    encoded = model.encode(SOURCE[:1], MASK[:1])
    prior, posterior = model.prior(encoded, torch.tensor([3])), model.posterior(encoded, LABELS[:1], torch.tensor([3]))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(posterior.mean, posterior.log_std.exp()), normal(prior.mean, prior.log_std.exp())
    )
    torch.testing.assert_close(scores.latent_kl[0], expected[0])


def test_unscored_columns_change_nothing_even_in_training() -> None:
    """What is drawn for a sentence must not depend on how far others are padded."""
    model = tiny_model().train()
    found = []
    for columns in (0, 4):
        torch.manual_seed(2)
        found.append(model(SOURCE, MASK, torch.nn.functional.pad(LABELS, (0, columns), value=-100)))
    assert torch.equal(found[0].log_prob, found[1].log_prob)
    assert torch.equal(found[0].latent_kl, found[1].latent_kl)


def test_what_pads_a_target_is_not_read() -> None:
    model, lengths = tiny_model(), torch.tensor([3, 1])
    encoded = model.encode(SOURCE, MASK)
    padded = model.posterior(encoded, torch.tensor([[7, 8, 9], [10, 1, 1]]), lengths)
    other = model.posterior(encoded, torch.tensor([[7, 8, 9], [10, 5, 6]]), lengths)
    for name in ("mean", "log_std"):
        torch.testing.assert_close(getattr(other, name)[0], getattr(padded, name)[0])
        torch.testing.assert_close(getattr(other, name)[1, 0], getattr(padded, name)[1, 0])


def test_an_empty_target_costs_its_length_alone_and_stays_attached() -> None:
    model = tiny_model().train()
    scores = model(SOURCE, MASK, torch.tensor([[7, 8], [-100, -100]]))
    assert scores.num_tokens.tolist() == [2, 0]
    assert scores.log_prob[1] == scores.regularizers["kl"][1] == 0
    assert scores.regularizers["length"][1] > 0
    total = scores.log_prob[1] + scores.regularizers["kl"][1]
    assert total.requires_grad
    total.backward()
    assert all((p.grad is None or (p.grad == 0).all()) for p in model.parameters())


def test_prior_and_posterior_have_layers_of_their_own() -> None:
    model = tiny_model(prior_layers=2, posterior_layers=3)
    stacks = (model.decoder, model.prior_layers, model.posterior_layers)
    assert [len(stack.layers) for stack in stacks] == [1, 2, 3]
    plain = tiny_model(decoder_layers=2)
    assert [len(stack.layers) for stack in (plain.prior_layers, plain.posterior_layers)] == [2, 2]


@pytest.mark.parametrize("name", ["latent_size", "prior_layers", "posterior_layers"])
def test_impossible_sizes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got 0"):
        LatentNatConfig(**{**SIZES, name: 0})


# The refinement network


@pytest.mark.parametrize("kind", [None, "score", "energy"])
def test_saved_and_loaded_it_decodes_to_the_same_bits(kind: str | None, tmp_path: Path) -> None:
    model = tiny_model()
    if kind is not None:
        model.attach_refiner(tiny_refiner(kind))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is LatentNat
    assert loaded.dtype == torch.float64
    assert {name: weight.dtype for name, weight in loaded.state_dict().items()} == {
        name: weight.dtype for name, weight in model.state_dict().items()
    }
    decoders = ["delta_inference"] if kind is None else ["delta_inference", "latent_refinement"]
    for decoder in decoders:
        first, second = (each.decode(SOURCE, MASK, decoder=decoder, steps=2) for each in (model, loaded))
        assert torch.equal(first.sequences, second.sequences)
        assert torch.equal(first.log_prob, second.log_prob)
    if kind is None:
        assert loaded.refiner is None
        assert loaded.config.refiner is None
    else:
        assert loaded.refiner.config.parameterization == kind
        assert loaded.config.refiner == model.config.refiner
    assert loaded.fingerprint() == model.fingerprint()


def test_the_fingerprint_is_that_of_the_translation_weights_alone() -> None:
    model = tiny_model()
    before = model.fingerprint()
    assert tiny_model().fingerprint() == before
    assert tiny_model(seed=4).fingerprint() != before
    model.attach_refiner(tiny_refiner())
    with torch.no_grad():
        model.refiner.head.weight.add_(1)
    assert model.fingerprint() == before
    for name, weight in model.named_parameters():
        if not name.startswith("refiner."):
            kept = weight.detach().clone()
            with torch.no_grad():
                weight.flatten()[-1] += 1e-9
            assert model.fingerprint() != before, name
            with torch.no_grad():
                weight.copy_(kept)
    assert model.fingerprint() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_size": 2}, "`refiner` must have `latent_size` 3, as the model has; got 2"),
        ({"d_model": 32}, "`refiner` must have `d_model` 16, as the model has; got 32"),
        ({"trained_for": "0123"}, "`refiner` was trained for another model: the weights it was trained with are not"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match=message):
        model.attach_refiner(tiny_refiner(**changes))
    assert model.refiner is None
    assert model.config.refiner is None


def test_a_network_of_its_own_is_taken_and_another_model_refuses_it() -> None:
    model, other = tiny_model(), tiny_model(seed=4)
    refiner = tiny_refiner(trained_for=model.fingerprint())
    model.attach_refiner(refiner)
    assert model.refiner is refiner
    with pytest.raises(ValueError, match="trained for another model"):
        other.attach_refiner(refiner)


@pytest.mark.parametrize("changes", [{"latent_size": 2}, {"d_model": 32}])
def test_a_configuration_whose_network_has_other_sizes_is_refused(changes: dict[str, int]) -> None:
    refiner = {"parameterization": "score", "latent_size": 3, **REFINER_SIZES, **changes}
    with pytest.raises(ValueError, match=f"`refiner` must have `{next(iter(changes))}`"):
        LatentNat(LatentNatConfig(**SIZES, latent_size=3, refiner=refiner))


def test_a_saved_network_of_other_weights_is_refused_unless_they_were_only_rounded(tmp_path: Path) -> None:
    model = tiny_model().float()
    model.attach_refiner(tiny_refiner(trained_for=model.fingerprint()).float())
    model.save_pretrained(tmp_path / "own")
    assert load_weights(str(tmp_path / "own"), load_config(str(tmp_path / "own"))).refiner is not None
    assert load_weights(str(tmp_path / "own"), load_config(str(tmp_path / "own")), dtype=torch.bfloat16)
    model.bfloat16().save_pretrained(tmp_path / "rounded")
    rounded = load_weights(str(tmp_path / "rounded"), load_config(str(tmp_path / "rounded")))
    assert rounded.dtype == torch.bfloat16
    assert load_weights(str(tmp_path / "rounded"), load_config(str(tmp_path / "rounded")), dtype=torch.float32)
    model.float().save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="other: `refiner` was trained for another model"):
        load_weights(str(tmp_path / "other"), load_config(str(tmp_path / "other")))


@pytest.mark.parametrize("kind", ["score", "energy"])
@pytest.mark.parametrize("decoder", ["delta_inference", "latent_refinement", "latent_search"])
def test_a_model_in_bfloat16_decodes_from_latents_in_float32(decoder: str, kind: str) -> None:
    model = tiny_model()
    model.attach_refiner(tiny_refiner(kind))
    model.bfloat16()
    batch = {"input_ids": SOURCE, "attention_mask": MASK}
    options = {"length_beam": 1, "num_samples": 1} if decoder == "latent_search" else {}
    output = DECODERS[decoder].decode(model, batch, keep_steps=True, **options)
    assert output.log_prob.dtype == torch.float32
    assert output.log_prob.isfinite().all()
    assert {latent.dtype for latent in output.trace["latents_per_step"]} == {torch.float32}
    assert model.train()(SOURCE, MASK, LABELS).latent_kl.dtype == torch.float32
