"""Objectives of preferences: closed-form policies of models that can be enumerated, and their limits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from sharpseq.declarations import build_method
from sharpseq.divergences import KL, NeymanChi2, OwnFDivergence, Renyi
from sharpseq.objectives.implicit_rewards import ImplicitReward
from sharpseq.objectives.preference import (
    D2O,
    PREFERENCES,
    Cvar,
    EntropicRisk,
    FDpo,
    HDpo,
    MeanRisk,
    PreferencePairs,
    RaDpo,
    ScoredAnswers,
    SparsePo,
    activation_masks,
)

VOCABULARY, LENGTH = 3, 2
TEXTS = list(itertools.product(range(VOCABULARY), repeat=LENGTH))
"""All that a language model with three tokens can write in two steps: nine answers."""

# g'(u) of D(reference ‖ policy) = Σ reference·g(policy/reference), each written down by hand.
SLOPES: dict[str, Callable[[Any], Any]] = {
    "reverse_kl": lambda u: np.log(u),
    "kl": lambda u: 1 - 1 / u,
    "jensen_shannon": lambda u: np.log(2 * u / (1 + u)) / 2,
    "alpha": lambda u: (1 - u**-0.5) / 0.5,
    "amari_alpha": lambda u: (1 - u**-0.5) / 0.5,
    "tsallis": lambda u: 1 - u**-2.0,
    "squared_hellinger": lambda u: (1 - u**-0.5) / 2,
    "pearson_chi2": lambda u: 1 - u**-2.0,
    "jeffreys": lambda u: 1 - 1 / u + np.log(u),
}


def log_probs_of(first: Tensor, second: Tensor) -> Tensor:
    """Log-probability of each text under logits of the first token (V,) and of the second after each first (V, V)."""
    start, following = first.log_softmax(-1), second.log_softmax(-1)
    return torch.stack([start[a] + following[a, b] for a, b in TEXTS])


def random_model(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((VOCABULARY,), (VOCABULARY, VOCABULARY))
    first, second = (scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return first, second


def fitted(objective: Any, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return reference and policy after training on every pair, weighted by how often it is preferred."""
    reference = log_probs_of(*random_model(1))
    parameters = [part.clone().requires_grad_() for part in random_model(1)]
    better, worse = map(torch.tensor, zip(*itertools.permutations(range(len(TEXTS)), 2), strict=True))
    gaps = torch.tensor(rewards)[better] - torch.tensor(rewards)[worse]
    shares = torch.sigmoid(gaps)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=3000, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )
    count = torch.full_like(better, LENGTH)

    def closure() -> Tensor:
        optimizer.zero_grad()
        policy = log_probs_of(*parameters)
        answers = [ScoredAnswers(policy[each], reference[each], count) for each in (better, worse)]
        loss = (shares * objective(PreferencePairs(*answers))).sum() / shares.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return reference.exp().numpy(), log_probs_of(*parameters).exp().detach().numpy()


def best_policy(slope: Callable[[Any], Any], reference: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
    """Return reference·(g')⁻¹((R − λ)/β), by root finding for each outcome and for λ."""

    def ratios(offset: float) -> np.ndarray:
        targets = (rewards - offset) / beta
        return np.array([np.exp(brentq(lambda x, t=t: slope(np.exp(x)) - t, -60, 60, xtol=1e-14)) for t in targets])

    # Where g' ends below every β, λ must be above the largest reward.
    top = slope(np.exp(50.0)) * beta
    low = rewards.max() - top * (1 - 1e-9) if top < 40 * beta else rewards.min() - 20
    offset = brentq(lambda each: float((reference * ratios(each)).sum()) - 1, low, rewards.max() + 20, xtol=1e-13)
    return reference * ratios(offset)


@pytest.mark.parametrize("name", SLOPES)
def test_f_dpo_reaches_its_closed_form(name: str) -> None:
    rewards = np.random.default_rng(0).normal(size=len(TEXTS)) * 0.7
    objective = build_method(PREFERENCES, {"name": "f_dpo", "beta": 0.8, "divergence": name})
    reference, policy = fitted(objective, rewards)
    expected = best_policy(SLOPES[name], reference, rewards, beta=0.8)
    assert 0.5 * np.abs(policy - expected).sum() < 1e-5
    assert 0.5 * np.abs(policy - reference).sum() > 0.05


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_h_dpo_reaches_its_closed_form(alpha: float) -> None:
    rewards = np.random.default_rng(1).normal(size=len(TEXTS)) * 0.5
    reference, policy = fitted(HDpo(beta=0.7, alpha=alpha), rewards)
    expected = reference ** (1 / alpha) * np.exp(rewards / (alpha * 0.7))
    expected /= expected.sum()
    assert 0.5 * np.abs(policy - expected).sum() < 1e-5

    # The optimum maximises E R + β(α H − CE), which no step away from it does.
    def value(p: np.ndarray) -> float:
        return float((p * rewards).sum() - 0.7 * (alpha * (p * np.log(p)).sum() - (p * np.log(reference)).sum()))

    generator = np.random.default_rng(2)
    for _ in range(20):
        other = policy * np.exp(0.1 * generator.normal(size=len(policy)))
        assert value(other / other.sum()) < value(policy)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(seed: int, *, count: int = 5, length: int = 4, requires_grad: bool = False) -> ScoredAnswers:
    """Return answers of random numbers, of which the tokens add up to the whole."""
    mask = torch.arange(length) < torch.tensor([length, 2, 3, length, 1])[:count, None]
    policy, reference = (-numbers(seed + number, count, length).abs() * mask for number in (0, 1))
    policy.requires_grad_(requires_grad)
    return ScoredAnswers(
        policy.sum(1),
        reference.sum(1),
        mask.sum(1),
        token_log_ratios=policy - reference,
        mask=mask,
        drift=numbers(seed + 2, count, length).abs(),
        reward_mask=torch.ones(count, length, dtype=torch.float64),
        drift_mask=torch.ones(count, length, dtype=torch.float64),
    )


def pairs(seed: int = 0) -> PreferencePairs:
    return PreferencePairs(answers(seed), answers(seed + 10))


def dpo(evidence: PreferencePairs, beta: float) -> Tensor:
    """DPO as its paper writes it."""
    chosen, rejected = evidence.chosen, evidence.rejected
    gap = chosen.log_prob - chosen.reference_log_prob - rejected.log_prob + rejected.reference_log_prob
    return torch.log1p(torch.exp(-beta * gap))


def tdpo(evidence: PreferencePairs, beta: float, alpha: float) -> Tensor:
    """TDPO from sums over tokens, one pair and one token at a time."""
    losses = []
    for index in range(len(evidence.chosen.log_prob)):
        margin = 0.0
        for sign, side in ((1, evidence.chosen), (-1, evidence.rejected)):
            assert side.token_log_ratios is not None and side.drift is not None and side.mask is not None
            for token in range(side.mask.shape[1]):
                if side.mask[index, token]:
                    margin = margin + sign * (side.token_log_ratios[index, token] + alpha * side.drift[index, token])
        losses.append(torch.log1p(torch.exp(-beta * torch.as_tensor(margin))))
    return torch.stack(losses)


LIMITS = {
    "f_dpo is dpo": (FDpo(beta=0.3), lambda evidence: dpo(evidence, 0.3)),
    "h_dpo is dpo": (HDpo(beta=0.3, alpha=1.0), lambda evidence: dpo(evidence, 0.3)),
    "d2o with one sample is dpo": (D2O(beta=0.3, alpha=0.3), lambda evidence: dpo(evidence, 0.3)),
    "ra_dpo without drift is dpo": (RaDpo(beta=0.3, alpha=0.0), lambda evidence: dpo(evidence, 0.3)),
    "ra_dpo of the mean is tdpo": (RaDpo(0.3, 0.5, MeanRisk()), lambda evidence: tdpo(evidence, 0.3, 0.5)),
    "sparse_po with masks of 1 is tdpo": (
        SparsePo(beta=0.3, reward_penalty=0.0, drift_penalty=0.0),
        lambda evidence: tdpo(evidence, 0.3, 1.0),
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits(name: str) -> None:
    objective, expected = LIMITS[name]
    torch.testing.assert_close(objective(pairs()), expected(pairs()), rtol=1e-12, atol=1e-12)


def test_d2o_takes_the_mean_of_its_samples() -> None:
    samples = ScoredAnswers(-numbers(3, 5, 4).abs(), -numbers(4, 5, 4).abs(), torch.full((5, 4), 3))
    rejected = answers(10)
    margins = D2O(beta=0.2, alpha=0.6).margins(PreferencePairs(samples, rejected))
    expected = [
        0.2 / 4 * sum(float(samples.log_ratio[row, k]) for k in range(4)) - 0.6 * float(rejected.log_ratio[row])
        for row in range(5)
    ]
    np.testing.assert_allclose(margins, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="`chosen` must be one answer to each prompt; got 4, which only `d2o`"):
        FDpo()(PreferencePairs(samples, rejected))


def test_no_gradient_goes_through_the_drift_of_the_chosen_answer() -> None:
    found = {}
    for detaches in (True, False):
        chosen, rejected = answers(0), answers(10)
        for side in (chosen, rejected):
            assert side.drift is not None
            side.drift.requires_grad_()
        RaDpo(0.3, 0.5, MeanRisk(), detach_chosen=detaches)(PreferencePairs(chosen, rejected)).sum().backward()
        assert chosen.drift is not None and rejected.drift is not None
        found[detaches] = chosen.drift.grad, rejected.drift.grad
    assert found[True][0] is None
    assert found[False][0] is not None and (found[False][0] <= 0).all()
    torch.testing.assert_close(found[True][1], found[False][1])


def test_masks_cost_their_mean_and_weigh_their_tokens() -> None:
    evidence = pairs()
    weights = numbers(5, 5, 4).abs(), numbers(6, 5, 4).abs()
    chosen, rejected = evidence.chosen, evidence.rejected
    weighted = PreferencePairs(
        *(
            ScoredAnswers(**{**vars(side), "reward_mask": weights[0], "drift_mask": weights[1]})
            for side in (chosen, rejected)
        )
    )
    objective = SparsePo(beta=0.4, reward_penalty=0.5, drift_penalty=2.0)
    expected = []
    for row in range(5):
        margin, prices, count = 0.0, [0.0, 0.0], 0
        for sign, side in ((1, chosen), (-1, rejected)):
            assert side.token_log_ratios is not None and side.drift is not None and side.mask is not None
            for token in range(4):
                if side.mask[row, token]:
                    ours = [float(each[row, token]) for each in weights]
                    margin += sign * ours[0] * float(side.token_log_ratios[row, token])
                    margin += sign * ours[1] * float(side.drift[row, token])
                    prices = [price + each for price, each in zip(prices, ours, strict=True)]
                    count += 1
        expected.append(np.log1p(np.exp(-0.4 * margin)) + (0.5 * prices[0] + 2.0 * prices[1]) / count)
    np.testing.assert_allclose(objective(weighted), expected, rtol=1e-12)
    fixed = SparsePo(beta=0.4, masks="fixed", reward_penalty=0.5)(weighted)
    np.testing.assert_allclose(fixed, torch.nn.functional.softplus(-objective.margins(weighted)), rtol=1e-12)


def test_fixed_masks_are_scaled_within_an_answer() -> None:
    states = numbers(0, 2, 4, 6)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    found = activation_masks(states, mask)
    sizes = states.abs().mean(-1)[0, :3]
    expected = (sizes - sizes.min()) / (sizes.max() - sizes.min())
    torch.testing.assert_close(found[0], torch.cat([expected, torch.zeros(1, dtype=torch.float64)]))
    assert found[1].tolist() == [1.0, 0.0, 0.0, 0.0]


# Risk


def distributions(rows: int = 6, size: int = 7) -> tuple[Tensor, Tensor]:
    return numbers(0, rows, size).log_softmax(-1), numbers(1, rows, size).log_softmax(-1)


@pytest.mark.parametrize("tail", ["upper", "lower"])
@pytest.mark.parametrize("mass", [0.05, 0.4, 0.97, 1.0])
def test_cvar_is_the_optimum_of_rockafellar_and_uryasev(tail: str, mass: float) -> None:
    """sup or inf over η of η ± E(±(X − η))⁺/mass, whose optimum is at one of the values of X."""
    reference, policy = distributions()
    found = Cvar(mass, tail)(reference, policy).numpy()
    for row in range(len(found)):
        x, p = (reference - policy)[row].numpy(), reference[row].exp().numpy()
        if tail == "upper":
            expected = min(eta + float(p @ np.maximum(x - eta, 0)) / mass for eta in x)
        else:
            expected = max(eta - float(p @ np.maximum(eta - x, 0)) / mass for eta in x)
        np.testing.assert_allclose(found[row], expected, rtol=1e-10)


def test_risks_meet_in_the_mean() -> None:
    reference, policy = distributions()
    mean = (reference.exp() * (reference - policy)).sum(-1)
    for risk in (MeanRisk(), Cvar(1.0), Cvar(1.0, "lower"), EntropicRisk(0.0)):
        torch.testing.assert_close(risk(reference, policy), mean)
    torch.testing.assert_close(EntropicRisk(1e-6)(reference, policy), mean, atol=1e-5, rtol=0)
    assert (EntropicRisk(2.0)(reference, policy) > mean).all()
    assert (EntropicRisk(-5.0)(reference, policy) < mean).all()
    assert (Cvar(0.3)(reference, policy) > mean).all()


def test_entropic_risk_is_renyis_divergence() -> None:
    reference, policy = distributions()
    expected = Renyi(3.0).exact(target_logits=reference, model_logits=policy)
    torch.testing.assert_close(EntropicRisk(2.0)(reference, policy), expected)


@pytest.mark.parametrize("risk", [MeanRisk(), Cvar(0.6), Cvar(0.6, "lower"), EntropicRisk(1.5), EntropicRisk(-2.0)])
def test_risks_have_a_gradient_also_where_the_reference_excludes_a_token(risk: Any) -> None:
    reference, _ = distributions(3, 5)
    logits = numbers(2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: risk(reference, z.log_softmax(-1)), (logits,))
    excluded = torch.tensor([[0.5, 0.5, 0.0]]).double().log()
    values = risk(excluded, logits[:1, :3].log_softmax(-1))
    (slopes,) = torch.autograd.grad(values.sum(), logits)
    assert values.isfinite().all()
    assert slopes.isfinite().all()


# What is refused, and what stays finite


def test_divergences_that_exclude_answers_are_refused() -> None:
    for divergence in (NeymanChi2(), OwnFDivergence(lambda u: 1 / u - 2 + u, limit_over_u=1.0)):
        with pytest.raises(ValueError, match=r"`divergence` .* has a finite reward for an answer of probability 0"):
            FDpo(divergence=divergence)
    with pytest.raises(ValueError, match=r"`divergence` alpha .* with α of at least 0"):
        build_method(PREFERENCES, {"name": "f_dpo", "divergence": {"name": "alpha", "alpha": -0.5}})
    own = FDpo(divergence=OwnFDivergence(lambda u: u * torch.log(u), limit_at_zero=0.0))
    torch.testing.assert_close(own(pairs()), FDpo(divergence=KL())(pairs()))


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_ratios_give_finite_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    objective = build_method(PREFERENCES, {"name": "f_dpo", "divergence": name})
    log_prob = torch.tensor([-500.0, -40.0, -1.0, -300.0], dtype=dtype, requires_grad=True)
    far = torch.tensor([-1.0, -400.0, -300.0, -2.0], dtype=dtype)
    count = torch.tensor([9, 9, 9, 9])
    evidence = PreferencePairs(ScoredAnswers(log_prob, far, count), ScoredAnswers(log_prob.flip(0), far, count))
    losses = objective(evidence)
    (slopes,) = torch.autograd.grad(losses.sum(), log_prob)
    assert losses.dtype == dtype
    assert losses.isfinite().all()
    assert slopes.isfinite().all()


@pytest.mark.parametrize("name", SLOPES)
def test_implied_rewards_rise_and_are_those_of_the_hand_written_slopes(name: str) -> None:
    reward = ImplicitReward(build_method(PREFERENCES, {"name": "f_dpo", "divergence": name}).divergence)
    log_ratios = torch.linspace(-8, 8, 41, dtype=torch.float64)
    np.testing.assert_allclose(
        reward.of_target(log_ratios), SLOPES[name](np.exp(log_ratios.numpy())), rtol=1e-9, atol=1e-12
    )
    # Bounded ones are flat to the last digit far above the reference.
    assert (reward.of_target(log_ratios * 20).diff() >= 0).all()


@pytest.mark.parametrize("name", PREFERENCES)
def test_every_objective_has_a_gradient_and_treats_pairs_alone(name: str) -> None:
    objective = build_method(PREFERENCES, name)
    whole = objective(pairs())
    assert whole.shape == (5,)

    def row_of(side: ScoredAnswers, row: int) -> ScoredAnswers:
        return ScoredAnswers(**{key: value[row : row + 1] for key, value in vars(side).items()})

    for row in range(5):
        evidence = PreferencePairs(row_of(pairs().chosen, row), row_of(pairs().rejected, row))
        torch.testing.assert_close(objective(evidence), whole[row : row + 1])

    def loss(log_prob: Tensor, ratios: Tensor) -> Tensor:
        sides = [
            ScoredAnswers(**{**vars(side), "log_prob": log_prob[number], "token_log_ratios": ratios[number]})
            for number, side in enumerate((pairs().chosen, pairs().rejected))
        ]
        value: Tensor = objective(PreferencePairs(*sides))
        return value

    inputs = numbers(7, 2, 5).requires_grad_(), numbers(8, 2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)
