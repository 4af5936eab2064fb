"""Estimates from samples: their mean over many draws, their variance, and how they fail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sharpseq.divergences import KL, JensenShannon, Renyi, ReverseKL, effective_sample_size

TARGET = torch.tensor([1.0, 0.3, -2.0, 0.0], dtype=torch.float64).log_softmax(-1)
MODEL = torch.tensor([-0.5, 1.0, 0.0, 0.7], dtype=torch.float64).log_softmax(-1)


def drawn(side: str, *shape: int, seed: int = 0) -> dict[str, Tensor | str]:
    generator = torch.Generator().manual_seed(seed)
    own = MODEL if side == "model" else TARGET
    ids = torch.multinomial(own.exp(), math.prod(shape), replacement=True, generator=generator).view(shape)
    return {"target_log_probs": TARGET[ids], "model_log_probs": MODEL[ids], "sampled_from": side}


@pytest.mark.parametrize("side", ["model", "target"])
def test_the_mean_over_many_samples_is_the_divergence(side: str) -> None:
    for divergence in (KL(), ReverseKL(), JensenShannon(0.3)):
        exact = float(divergence.exact(target_logits=TARGET, model_logits=MODEL))
        for control in (0.0, -1.0, "fitted"):
            terms = divergence.from_samples(**drawn(side, 40_000), control=control)  # type: ignore[arg-type]
            error = float(terms.std()) / 200
            assert float(terms.mean()) == pytest.approx(exact, abs=4 * error)


def test_k1_and_k3_are_the_two_ends_of_the_control_variate() -> None:
    samples = drawn("model", 50)
    log_u = samples["target_log_probs"] - samples["model_log_probs"]  # type: ignore[operator]
    k1 = ReverseKL().from_samples(**samples, control=-1.0)  # type: ignore[arg-type]
    k3 = ReverseKL().from_samples(**samples)  # type: ignore[arg-type]
    torch.testing.assert_close(k1, -log_u)
    torch.testing.assert_close(k3, log_u.exp() - 1 - log_u)
    forward = drawn("target", 50)
    log_r = forward["model_log_probs"] - forward["target_log_probs"]  # type: ignore[operator]
    torch.testing.assert_close(KL().from_samples(**forward), log_r.exp() - 1 - log_r)  # type: ignore[arg-type]


def test_a_fitted_control_variate_has_the_least_variance() -> None:
    samples = drawn("model", 500)
    spread = {
        control: float(ReverseKL().from_samples(**samples, control=control).var())  # type: ignore[arg-type]
        for control in ("fitted", 0.0, -1.0, -0.5)
    }
    assert spread["fitted"] == min(spread.values())
    assert spread["fitted"] < 0.9 * min(spread[0.0], spread[-1.0])


def test_differentiating_the_value_of_model_samples_would_give_another_gradient() -> None:
    """The value of k3 as a loss has the gradient of the other KL; the terms carry the right one."""
    model = MODEL.clone().requires_grad_()
    log_q = model.log_softmax(-1)
    (right,) = torch.autograd.grad(ReverseKL().exact(target_logits=TARGET, model_logits=model), model)
    log_u = TARGET - log_q
    chances = log_q.detach().exp()
    (naive,) = torch.autograd.grad((chances * (log_u.exp() - 1 - log_u)).sum(), model, retain_graph=True)
    terms = ReverseKL().from_samples(target_log_probs=TARGET, model_log_probs=log_q, sampled_from="model")
    (ours,) = torch.autograd.grad((chances * terms).sum(), model)
    torch.testing.assert_close(ours, right)
    assert (naive - right).abs().max() > 0.05
    (forward,) = torch.autograd.grad(KL().exact(target_logits=TARGET, model_logits=model), model)
    torch.testing.assert_close(naive, forward)


def test_the_control_variate_is_in_the_gradient_too() -> None:
    """From the target the terms' gradient is that of their values; from the model the variate is a baseline, −c."""
    samples = drawn("target", 20)
    model = samples["model_log_probs"].clone().requires_grad_()  # type: ignore[union-attr]
    log_r = model - samples["target_log_probs"]
    value = log_r.exp() - 1 - log_r + 0.7 * (1 - log_r.exp())
    terms = KL().from_samples(**{**samples, "model_log_probs": model}, control=0.7)  # type: ignore[arg-type]
    torch.testing.assert_close(terms, value)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), model)[0] for each in (terms, value)))
    samples = drawn("model", 20)
    model = samples["model_log_probs"].clone().requires_grad_()  # type: ignore[union-attr]
    terms = ReverseKL().from_samples(**{**samples, "model_log_probs": model}, control=-1.0)  # type: ignore[arg-type]
    log_u = samples["target_log_probs"] - samples["model_log_probs"]  # type: ignore[operator]
    torch.testing.assert_close(torch.autograd.grad(terms.sum(), model)[0], 1 - log_u)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("side", ["model", "target"])
def test_renyi_from_many_samples_and_its_bias_from_few(side: str, alpha: float) -> None:
    model = MODEL.clone().requires_grad_()
    divergence = Renyi(alpha)
    exact = divergence.exact(target_logits=TARGET, model_logits=model)
    # Each outcome as often as it is probable: the mean over such samples is the expectation.
    counts = (1e5 * (MODEL if side == "model" else TARGET).exp()).round().long()
    ids = torch.arange(4).repeat_interleave(counts)
    value = divergence.from_samples(
        target_log_probs=TARGET[ids],
        model_log_probs=model.log_softmax(-1)[ids],
        sampled_from=side,  # type: ignore[arg-type]
    )
    torch.testing.assert_close(value, exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(value, model)[0], torch.autograd.grad(exact, model)[0], rtol=1e-3, atol=1e-4
    )
    few = divergence.from_samples(**drawn(side, 4000, 5)).mean()  # type: ignore[arg-type]
    if alpha != 1:
        assert bool(few < exact) == (alpha > 1)


def test_the_effective_sample_size_shows_an_infinite_variance() -> None:
    """Normal laws of widths 1 and s: E_q[u²] is infinite for a target wider than √2."""
    torch.manual_seed(0)
    x = torch.randn(10_000, dtype=torch.float64)

    def size(width: float) -> float:
        log_p = -(x**2) / (2 * width**2) - math.log(width)
        return float(effective_sample_size(target_log_probs=log_p, model_log_probs=-(x**2) / 2, sampled_from="model"))

    assert size(1.0) == pytest.approx(10_000)
    assert size(1.2) > 7_000
    assert size(2.5) < 500


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sampled_from": "teacher"}, "`sampled_from` must be 'model' or 'target'; got 'teacher'"),
        ({"model_log_probs": torch.zeros(2)}, r"`target_log_probs` has shape \(3,\) and `model_log_probs` \(2,\)"),
        ({"model_log_probs": torch.full((3,), -math.inf)}, "must be finite: these are samples of the model"),
    ],
)
def test_wrong_samples_are_one_clear_line(changed: dict[str, object], message: str) -> None:
    given = {"target_log_probs": torch.zeros(3), "model_log_probs": torch.zeros(3), "sampled_from": "model"}
    with pytest.raises(ValueError, match=message):
        KL().from_samples(**{**given, **changed})  # type: ignore[arg-type]


def test_a_sample_that_the_other_side_excludes_has_its_price() -> None:
    given = {"target_log_probs": torch.tensor([-math.inf, -1.0]), "model_log_probs": torch.tensor([-1.0, -1.0])}
    terms = KL().from_samples(**given, sampled_from="model")
    torch.testing.assert_close(terms, torch.tensor([1.0, 0.0]))
    assert ReverseKL().from_samples(**given, sampled_from="model").tolist() == [math.inf, 0.0]
